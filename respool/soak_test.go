package respool_test

import (
	"context"
	"errors"
	"flag"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gommu/respool"
)

var soakCalls = flag.Float64("soak", 0, "how many calls TestSoak makes; 0 is a second or two of them. For 1e9: go test ./respool -run Soak -soak 1e9 -timeout 0 -v")

// A thing knows who holds it. Its fields are plain: if two have it at once, the one who puts it
// first finds the other's name, or the race detector says so.
type thing struct {
	holder int32
	gone   bool
	_      [7]uint64 // a line each
}

// things is a source that fails one call in eight, of Alloc and of Free, once the pools are made. What Free
// fails to dispose of is lost, as Source says.
type things struct {
	t           *testing.T
	calls       atomic.Int64
	fails       atomic.Bool
	made, freed atomic.Int64
	lost        atomic.Int64
}

var errThings = errors.New("no things today")

func (s *things) Alloc(context.Context) (*thing, error) {
	if s.fails.Load() && s.calls.Add(1)%8 == 0 {
		return nil, errThings
	}
	s.made.Add(1)
	return new(thing), nil
}

func (s *things) Free(x *thing) error {
	if x.holder != 0 || x.gone {
		s.t.Error("freed a thing that is held or was freed")
	}
	x.gone = true
	if s.calls.Add(1)%8 == 0 {
		s.lost.Add(1)
		return errThings
	}
	s.freed.Add(1)
	return nil
}

func openThings(t *testing.T, src *things) *respool.Pool[*thing] {
	o := respool.Options{
		Low: 64, High: 256, Max: 2048, Step: 64, OrdinaryMark: 16, AtomicMark: 8,
		MinInterval: 50 * time.Microsecond, MaxInterval: time.Millisecond, IdleAfter: time.Millisecond, MinAge: time.Millisecond, MaxBackoff: time.Millisecond,
	}
	p, err := respool.New(t.Context(), src, o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Calls of all kinds by many goroutines, while the worker grows and shrinks the pools and
// their source fails: nothing is lost, nothing is had by two at once.
func TestSoak(t *testing.T) {
	total := *soakCalls
	if total == 0 {
		total = 20e6
	}
	if *soakCalls == 0 && (respool.RaceDetector || testing.Short()) {
		total = 1e6
	}
	if *soakCalls == 0 && debugBuild { // each call takes a stack trace
		total = 1e5
	}
	src := &things{t: t}
	ps := []*respool.Pool[*thing]{openThings(t, src), openThings(t, src)}
	src.fails.Store(true)
	n := 2 * runtime.GOMAXPROCS(0)
	inbox := make([]chan parcel, n)
	for i := range inbox {
		inbox[i] = make(chan parcel, 8)
	}
	limit := time.Now().Add(time.Minute)
	seen := func() bool { // what the test is to be about; a slow machine needs longer
		for _, p := range ps {
			if s := p.Stats(); (s.Grown == 0 || s.Shrunk == 0 || s.SourceErrors == 0 || s.Empty == 0) && time.Now().Before(limit) {
				return false
			}
		}
		return true
	}
	began := time.Now()
	calls := soak(t, ps, inbox, int(total)/n, seen)
	took := time.Since(began)
	for _, p := range ps {
		endSoak(t, p)
	}
	if made, freed, lost := src.made.Load(), src.freed.Load(), src.lost.Load(); made != freed+lost {
		t.Errorf("%d made, %d freed, %d lost by the source", made, freed, lost)
	}
	t.Logf("%d calls by %d goroutines in %v, %.1f ns a call", calls, n, took, float64(took.Nanoseconds())/float64(calls))
}

// soak runs a soaker for each inbox and returns how many calls they made.
func soak(t *testing.T, ps []*respool.Pool[*thing], inbox []chan parcel, each int, enough func() bool) (calls int) {
	us := make([]*soaker, len(inbox))
	var fail atomic.Bool
	var wg sync.WaitGroup
	for i := range us {
		u := &soaker{t: t, id: int32(i + 1), ps: ps, inbox: inbox, fail: &fail, held: make([][]*thing, len(ps))}
		u.cs = []*respool.Cache[*thing]{ps[0].NewCache(64), ps[1].As(respool.Atomic).NewCache(24)}
		u.buf = make([]*thing, 64)
		u.rand = rand.New(rand.NewPCG(uint64(i), rand.Uint64()))
		us[i] = u
		wg.Go(func() { u.run(each, enough) })
	}
	wg.Wait()
	for _, in := range inbox {
		close(in)
		for parcel := range in {
			if err := parcel.r.Return(); err != nil {
				t.Error(err)
			}
		}
	}
	for _, u := range us {
		calls += u.calls
	}
	return calls
}

// endSoak closes a pool of which nothing is out.
func endSoak(t *testing.T, p *respool.Pool[*thing]) {
	if s := p.Stats(); s.InUse != 0 || s.Cached != 0 || s.Reserved != 0 || s.Waiting != 0 || s.Gets != s.Puts {
		t.Errorf("all is back: %+v", s)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := p.Close(ctx); err != nil && (!errors.Is(err, respool.ErrFree) || errors.Is(err, respool.ErrLeaked)) {
		t.Error(err)
	}
	s := p.Stats()
	if s.Filled+s.Grown != s.Shrunk+s.Drained || s.Free != 0 {
		t.Errorf("closed: %+v", s)
	}
	if s.Grown == 0 || s.Shrunk == 0 || s.SourceErrors == 0 || s.FreeErrors == 0 || s.Empty == 0 {
		t.Errorf("the test shows too little: %+v", s)
	}
	t.Logf("%+v", s)
}

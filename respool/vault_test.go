package respool

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// holdAndWait is o for tests that hold elements while they wait for more, which a debug build
// reports; of what leaks Close tells.
func holdAndWait(t testing.TB, o Options) Options {
	o.OnReport = func(r Report) {
		if r.Kind != PoolCycle && r.Kind != Leaked {
			t.Error(r)
		}
	}
	return o
}

// firstLine is the text of err without what a debug build adds.
func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

var errVault = errors.New("vault says no")

// A vault is a source of numbered elements that knows which of them exist.
type vault struct {
	t     testing.TB
	delay time.Duration // of each Alloc, unless its context ends before

	freeDelay atomic.Int64 // of each Free, a time.Duration

	mu     sync.Mutex
	next   int
	live   map[int]bool
	calls  int                    // of Alloc and Free
	allocs int                    // calls of Alloc
	fail   func(call int) error   // asked at each call of either, counted from 1
	block  chan struct{}          // Alloc waits for it, whatever its context says
	inside chan<- context.Context // told when Alloc is called
	lost   int                    // elements that Free refused
}

func newVault(t testing.TB) *vault { return &vault{t: t, live: map[int]bool{}} }

func (v *vault) Alloc(ctx context.Context) (int, error) {
	if v.inside != nil {
		v.inside <- ctx
	}
	if v.block != nil {
		<-v.block
	}
	if v.delay > 0 {
		select {
		case <-time.After(v.delay):
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.allocs++
	if err := v.called(); err != nil {
		return 0, err
	}
	v.next++
	v.live[v.next] = true
	return v.next, nil
}

func (v *vault) Free(e int) error {
	time.Sleep(time.Duration(v.freeDelay.Load()))
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.live[e] {
		v.t.Errorf("Free(%d): no such element", e)
	}
	delete(v.live, e)
	if err := v.called(); err != nil {
		v.lost++
		return err
	}
	return nil
}

func (v *vault) called() error {
	v.calls++
	if v.fail == nil {
		return nil
	}
	return v.fail(v.calls)
}

func (v *vault) setFail(f func(int) error) { v.mu.Lock(); defer v.mu.Unlock(); v.fail = f }
func (v *vault) existing() int             { v.mu.Lock(); defer v.mu.Unlock(); return len(v.live) }
func (v *vault) allocCalls() int           { v.mu.Lock(); defer v.mu.Unlock(); return v.allocs }

func always(int) error { return errVault }

// open makes a pool; the test closes it with end.
func open(t testing.TB, v *vault, o Options) *Pool[int] {
	t.Helper()
	p, err := New(context.Background(), v, o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// end closes p and checks that nothing is left.
func end(t testing.TB, p *Pool[int], v *vault) {
	t.Helper()
	if err := p.Close(context.Background()); err != nil {
		t.Errorf("Close: %v", err)
	}
	if n := v.existing(); n != 0 {
		t.Errorf("%d elements exist after Close", n)
	}
	checkSum(t, p)
}

func get(t testing.TB, p *Pool[int], n int) []int {
	t.Helper()
	var es []int
	for range n {
		e, err := p.Get()
		if err != nil {
			t.Fatalf("Get %d of %d: %v; %+v", len(es)+1, n, err, p.Stats())
		}
		es = append(es, e)
	}
	return es
}

func put(t testing.TB, p *Pool[int], es ...int) {
	t.Helper()
	for _, e := range es {
		if err := p.Put(e); err != nil {
			t.Fatalf("Put(%d): %v; %+v", e, err, p.Stats())
		}
	}
}

// checkSum checks what holds of the counters of a pool at rest.
func checkSum[T any](t interface {
	Helper()
	Errorf(string, ...any)
}, p *Pool[T]) {
	t.Helper()
	s := p.Stats()
	if s.Filled+s.Grown != uint64(s.Free+s.InUse+s.Cached+s.Reserved)+s.Shrunk+s.Drained || s.Gets-s.Puts != uint64(s.InUse+s.Cached+s.Reserved) {
		t.Errorf("the sums are wrong: %+v", s)
	}
	if s.Free+s.InUse+s.Cached+s.Reserved > p.opts.Max {
		t.Errorf("above Max %d: %+v", p.opts.Max, s)
	}
}

// must is e of a call that cannot fail.
func must[T any](e T, err error) T {
	if err != nil {
		panic(err)
	}
	return e
}

package respool_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gommu/respool"
	"gommu/respool/source"
)

// A scene is a pool whose source fails its Nth call, driven through all that can become of a pool.
// In each stage of it the case under test makes its call.
type scene struct {
	t       *testing.T
	f       *source.Faulty[int]
	live    func() int // elements that exist
	p       *respool.Pool[int]
	held    []int
	promise *respool.Reservation[int] // made at the beginning, kept to the end
	told    atomic.Uint64             // by OnSourceError
	mode    faultMode
	stage   string
}

// A faultMode says which calls fail.
type faultMode struct {
	onFree  bool // of Free, not of Alloc
	forever bool // the Nth and all after it
}

func (m faultMode) String() string {
	s := "Alloc"
	if m.onFree {
		s = "Free"
	}
	if m.forever {
		s += ", and all after it,"
	}
	return s
}

const sceneMax = 8

// enough is a time in which a worker has done all that it is going to do.
const enough = time.Second

func sceneOptions() respool.Options {
	o := respool.Options{
		Low: 2, High: 4, Max: sceneMax, Step: 1,
		MinInterval: time.Millisecond, MaxInterval: 10 * time.Millisecond, IdleAfter: 20 * time.Millisecond, MinAge: 20 * time.Millisecond, MaxBackoff: 20 * time.Millisecond,
	}
	hear(&o)
	return o
}

func newFaulty() (f *source.Faulty[int], live func() int) {
	var mu sync.Mutex
	next, n := 0, 0
	return &source.Faulty[int]{Source: source.Values[int]{
		New:     func() (int, error) { mu.Lock(); defer mu.Unlock(); next++; n++; return next, nil },
		Dispose: func(int) error { mu.Lock(); defer mu.Unlock(); n--; return nil },
	}}, func() int { mu.Lock(); defer mu.Unlock(); return n }
}

// faults returns the faults of the mode's method.
func (s *scene) faults() *source.Faults {
	if s.mode.onFree {
		return &s.f.OnFree
	}
	return &s.f.OnAlloc
}

// broken says whether the pool cannot grow.
func (s *scene) broken() bool {
	return !s.mode.onFree && s.mode.forever && s.f.OnAlloc.Stats().Failed > 0
}

func (s *scene) errorf(format string, args ...any) {
	s.t.Helper()
	s.t.Errorf("%s: %s: %+v", s.stage, fmt.Sprintf(format, args...), s.p.Stats())
}

// A state is what a call that fails must not change.
type state struct{ free, out, reserved int }

func (s *scene) state() state {
	synctest.Wait() // or the worker has one in its hands
	st := s.p.Stats()
	return state{st.Free, st.InUse + st.Cached, st.Reserved}
}

// still runs f, which takes no time and gives back what it takes: afterwards all is as before.
func (s *scene) still(f func()) {
	s.t.Helper()
	before := s.state()
	f()
	if after := s.state(); after != before {
		s.errorf("was %+v, is %+v", before, after)
	}
}

// takes calls do, which takes n free elements and does not wait: it has to succeed if there are
// as many, whatever the source does, and otherwise to change nothing.
func (s *scene) takes(n int, do func() error) (ok bool) {
	s.t.Helper()
	before := s.state()
	err := do()
	after := s.state()
	switch {
	case before.free >= n && err != nil:
		s.errorf("%d are free, %d asked for: %v", before.free, n, err)
	case before.free >= n && after.free != before.free-n:
		s.errorf("%d taken: was %+v, is %+v", n, before, after)
	case before.free < n && !errors.Is(err, respool.ErrEmpty):
		s.errorf("%d are free, %d asked for: %v", before.free, n, err)
	case before.free < n && after != before:
		s.errorf("refused: was %+v, is %+v", before, after)
	}
	return err == nil
}

// waits calls do, which waits for n elements: it has to succeed if the pool can have them.
func (s *scene) waits(n int, do func(context.Context) error) (ok bool) {
	s.t.Helper()
	before := s.state()
	canGrow := before.out+before.reserved+n <= sceneMax
	ctx, cancel := context.WithTimeout(s.t.Context(), enough)
	defer cancel()
	err := do(ctx)
	after := s.state()
	switch {
	case err == nil:
		return true
	case !errors.Is(err, context.DeadlineExceeded):
		s.errorf("%v", err)
	case before.free >= n || canGrow && !s.broken():
		s.errorf("waited for %d in vain: %v", n, err)
	case after.out != before.out || after.reserved != before.reserved:
		s.errorf("in vain: was %+v, is %+v", before, after)
	}
	return false
}

// must reports an error of what cannot fail.
func (s *scene) must(err error) {
	s.t.Helper()
	if err != nil {
		s.errorf("%v", err)
	}
}

// check is what holds at any moment at which the worker rests.
func (s *scene) check() {
	st := s.p.Stats()
	if st.Filled+st.Grown != uint64(st.Free+st.InUse+st.Cached+st.Reserved)+st.Shrunk+st.Drained {
		s.errorf("the sum is wrong")
	}
	if n := st.Free + st.InUse + st.Cached + st.Reserved; n != s.f.Outstanding() || n > sceneMax {
		s.errorf("the source gave %d", s.f.Outstanding())
	}
	if st.InUse+st.Cached != len(s.held) || st.Reserved != s.promise.Len() {
		s.errorf("%d held, %d promised", len(s.held), s.promise.Len())
	}
}

// in makes the case's call in one stage, and sees that the promise made before is kept.
func (s *scene) in(stage string, run func(*scene)) {
	s.stage = stage
	run(s)
	s.still(func() {
		e, err := s.promise.Get()
		s.must(err)
		s.must(s.promise.Put(e))
	})
	synctest.Wait()
	s.check()
}

// takeAll takes what is free.
func (s *scene) takeAll() {
	for {
		e, err := s.p.Get()
		if err != nil {
			return
		}
		s.held = append(s.held, e)
	}
}

// play is the scene. It says whether the fault came.
func (s *scene) play(n int, run func(*scene)) (came bool) {
	s.stage = "opening"
	o := sceneOptions()
	o.OnSourceError = func(error) { s.told.Add(1) }
	p, err := respool.New(context.Background(), s.f, o)
	if err != nil {
		s.t.Fatal(err)
	}
	s.p = p
	s.promise, err = p.Reserve(2)
	s.must(err)
	last := n
	if s.mode.forever {
		last = math.MaxInt - s.faults().Stats().Calls
	}
	s.faults().FailRange(s.faults().Stats().Calls+n, s.faults().Stats().Calls+last, nil)

	s.in("new", run)
	time.Sleep(enough)
	s.in("at rest", run)
	s.takeAll()
	s.in("dry", run)
	for range sceneMax {
		s.takeAll()
		time.Sleep(enough / 4)
	}
	if st := s.p.Stats(); !s.broken() && st.InUse+st.Reserved != sceneMax {
		s.errorf("did not grow to Max")
	}
	s.in("all in use", run)
	s.must(s.p.PutBatch(s.held))
	s.held = nil
	s.in("grown", run)
	time.Sleep(enough)
	if st := s.p.Stats(); !s.broken() && st.Shrunk == 0 {
		s.errorf("did not shrink")
	}
	s.in("shrunk", run)
	return s.end()
}

// closeSoon does not hang where something leaked.
func closeSoon(p *respool.Pool[int]) error {
	ctx, cancel := context.WithTimeout(context.Background(), enough)
	defer cancel()
	return p.Close(ctx)
}

// end closes the pool and looks for what is left.
func (s *scene) end() (came bool) {
	s.stage = "recovery"
	if !s.mode.onFree {
		s.f.OnAlloc.Clear()
		time.Sleep(enough)
		if free := s.p.Stats().Free; free < 2 {
			s.errorf("%d free, the source is good again", free)
		}
	}
	s.stage = "end"
	s.must(s.promise.Return())
	lost := s.f.OnFree.Stats().Failed
	err := closeSoon(s.p)
	if lost = s.f.OnFree.Stats().Failed - lost; (lost > 0) != errors.Is(err, respool.ErrFree) || lost == 0 && err != nil {
		s.errorf("Close: %v, %d lost", err, lost)
	}
	st := s.p.Stats()
	if st.Free+st.InUse+st.Cached+st.Reserved+st.Waiting != 0 || st.Gets != st.Puts || st.Filled+st.Grown != st.Shrunk+st.Drained {
		s.errorf("closed")
	}
	if s.told.Load() != st.SourceErrors {
		s.errorf("OnSourceError was called %d times", s.told.Load())
	}
	allLost := s.f.OnFree.Stats().Failed
	if s.f.Outstanding() != 0 || s.f.Lost() != allLost || s.live() != allLost {
		s.errorf("%d leaked, %d lost, %d exist", s.f.Outstanding(), s.f.Lost(), s.live())
	}
	return s.faults().Stats().Failed > 0
}

// Whichever call of its source fails, in whatever state the pool is, whichever method is called then:
// the method does what the state of the pool says, nothing leaks, and reservations hold.
func TestFailNthEverywhere(t *testing.T) {
	modes := []faultMode{{}, {onFree: true}, {forever: true}, {true, true}}
	if testing.Short() || respool.RaceDetector {
		modes = modes[:2]
	}
	for name, run := range failCases {
		if run == nil {
			continue
		}
		t.Run(name, func(t *testing.T) {
			total := 0
			for _, mode := range modes {
				came := true
				for n := 1; came && !t.Failed(); n++ {
					synctest.Test(t, func(t *testing.T) {
						s := &scene{t: t, mode: mode}
						s.f, s.live = newFaulty()
						came = s.play(n, run)
						total++
						if t.Failed() {
							t.Logf("%v call %d failed", mode, n)
						}
					})
					if !came && n < 3 {
						t.Errorf("%v was called %d times only: the scene shows nothing", mode, n-1)
					}
				}
			}
			t.Logf("%d scenes", total)
		})
	}
}

// Every exported function and method is a case of TestFailNthEverywhere, or is said to need none.
func TestFailNthEverywhereIsComplete(t *testing.T) {
	found := map[string]bool{}
	for _, name := range exportedFuncs(t) {
		found[name] = true
		if _, ok := failCases[name]; !ok {
			t.Errorf("%s has no case in failCases: what becomes of it when the source fails?", name)
		}
	}
	for name, run := range failCases {
		if !found[name] && run != nil {
			t.Errorf("the case %s is of nothing", name)
		}
	}
	for _, name := range []string{"New", "Pool.Get", "Reservation.Return", "Cache.PutBatch"} {
		if !found[name] {
			t.Errorf("%s was not found among %s", name, strings.Join(exportedFuncs(t), ", "))
		}
	}
}

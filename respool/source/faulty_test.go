package source

import (
	"context"
	"errors"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gommu/respool"
	"pgregory.net/rapid"
)

// newCounted returns a Faulty before a source of numbers, of which live exist.
func newCounted() (f *Faulty[int], live func() int) {
	var mu sync.Mutex
	next, n := 0, 0
	f = &Faulty[int]{Source: Values[int]{
		New:     func() (int, error) { mu.Lock(); defer mu.Unlock(); next++; n++; return next, nil },
		Dispose: func(int) error { mu.Lock(); defer mu.Unlock(); n--; return nil },
	}}
	return f, func() int { mu.Lock(); defer mu.Unlock(); return n }
}

// Calls fail that were asked to, Alloc and Free each by its own numbers, and nothing is lost
// that Reclaim does not find.
func TestFaultyNth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f, live := newCounted()
		bg := context.Background()
		ranges := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) [2]int {
			first := rapid.IntRange(-1, 12).Draw(t, "first")
			return [2]int{first, first + rapid.IntRange(-1, 4).Draw(t, "more")}
		}), 0, 3)
		fails := map[*Faults][][2]int{&f.OnAlloc: ranges.Draw(t, "alloc"), &f.OnFree: ranges.Draw(t, "free")}
		for faults, rs := range fails {
			for _, r := range rs {
				faults.FailRange(r[0], r[1], errTest)
			}
		}
		want := func(faults *Faults) (err error) {
			for _, r := range fails[faults] {
				if n := faults.Stats().Calls + 1; r[0] <= n && n <= r[1] {
					return errTest
				}
			}
			return nil
		}
		var have []int
		lost, failed := 0, 0
		for range 20 {
			if len(have) > 0 && rapid.Bool().Draw(t, "give") {
				expect := want(&f.OnFree)
				if err := f.Free(have[0]); err != expect {
					t.Fatalf("Free %+v: %v", f.OnFree.Stats(), err)
				}
				have = have[1:]
				if expect != nil {
					lost++
				}
				continue
			}
			expect := want(&f.OnAlloc)
			e, err := f.Alloc(bg)
			if err != expect {
				t.Fatalf("Alloc %+v: %v", f.OnAlloc.Stats(), err)
			}
			if err == nil {
				have = append(have, e)
			} else {
				failed++
			}
		}
		if f.Outstanding() != len(have) || f.Lost() != lost || live() != len(have)+lost {
			t.Fatalf("%d out, %d lost, %d exist; %d and %d wanted", f.Outstanding(), f.Lost(), live(), len(have), lost)
		}
		if f.OnAlloc.Stats().Failed != failed || f.OnFree.Stats().Failed != lost {
			t.Fatalf("%+v, %+v", f.OnAlloc.Stats(), f.OnFree.Stats())
		}
		if err := f.Reclaim(); err != nil || f.Lost() != 0 || live() != len(have) {
			t.Fatalf("Reclaim: %v, %d exist", err, live())
		}
	})
}

func TestFaultyDefaultError(t *testing.T) {
	f, _ := newCounted()
	f.OnAlloc.FailNth(2, nil)
	f.OnFree.Refuse(time.Hour, nil)
	e, err := f.Alloc(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Alloc(context.Background()); err != ErrInjected {
		t.Errorf("Alloc: %v", err)
	}
	if err := f.Free(e); err != ErrInjected {
		t.Errorf("Free: %v", err)
	}
}

// What the source behind says is passed on, and counts nothing as given back.
func TestFaultyPassesErrors(t *testing.T) {
	broken := &Faulty[int]{Source: Values[int]{New: func() (int, error) { return 0, errTest }, Dispose: func(int) error { return errTest }}}
	if _, err := broken.Alloc(context.Background()); err != errTest || broken.Outstanding() != 0 {
		t.Errorf("Alloc: %v, %d out", err, broken.Outstanding())
	}
	if err := broken.Free(1); err != errTest || broken.Outstanding() != 0 {
		t.Errorf("Free: %v, %d out", err, broken.Outstanding())
	}
	broken.OnFree.FailNth(2, nil)
	broken.Free(1)
	if err := broken.Reclaim(); err != errTest || broken.Lost() != 1 {
		t.Errorf("Reclaim: %v, %d lost", err, broken.Lost())
	}
}

// An element that the source refuses stays to be reclaimed and does not keep the others.
func TestFaultyReclaimsLater(t *testing.T) {
	stuck := true
	var freed []int
	f := &Faulty[int]{Source: Values[int]{New: func() (int, error) { return 0, nil }, Dispose: func(e int) error {
		if e == 2 && stuck {
			return errTest
		}
		freed = append(freed, e)
		return nil
	}}}
	f.OnFree.FailRange(1, 3, nil)
	for e := range 3 {
		if err := f.Free(e); err != ErrInjected {
			t.Error(err)
		}
	}
	if err := f.Reclaim(); err != errTest || f.Lost() != 3 {
		t.Errorf("%v, %d lost", err, f.Lost())
	}
	if err := f.Reclaim(); err != errTest || f.Lost() != 1 || len(freed) != 2 {
		t.Errorf("%v, %d lost, freed %v", err, f.Lost(), freed)
	}
	stuck = false
	if err := f.Reclaim(); err != nil || f.Lost() != 0 || len(freed) != 3 {
		t.Errorf("%v, %d lost, freed %v", err, f.Lost(), freed)
	}
}

func TestFaultyDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _ := newCounted()
		f.OnAlloc.Delay(time.Minute)
		f.OnFree.Delay(time.Hour)
		start := time.Now()
		e, err := f.Alloc(t.Context())
		if took := time.Since(start); err != nil || took != time.Minute {
			t.Errorf("Alloc: %v after %v", err, took)
		}
		start = time.Now()
		if err := f.Free(e); err != nil || time.Since(start) != time.Hour {
			t.Errorf("Free: %v after %v", err, time.Since(start))
		}
		start = time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := f.Alloc(ctx); err != context.DeadlineExceeded || time.Since(start) != time.Second {
			t.Errorf("Alloc with a context: %v after %v", err, time.Since(start))
		}
		if s := f.OnAlloc.Stats(); s != (FaultStats{Calls: 2}) || f.Outstanding() != 0 {
			t.Errorf("%+v, %d out", s, f.Outstanding())
		}
		f.OnAlloc.Delay(0)
		start = time.Now()
		if _, err := f.Alloc(t.Context()); err != nil || time.Since(start) != 0 {
			t.Errorf("Alloc: %v after %v", err, time.Since(start))
		}
	})
}

func TestFaultyRefuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, live := newCounted()
		f.OnAlloc.Refuse(time.Hour, errTest)
		time.Sleep(time.Hour - 1)
		if _, err := f.Alloc(t.Context()); err != errTest || live() != 0 {
			t.Errorf("while refused: %v", err)
		}
		time.Sleep(time.Nanosecond)
		if _, err := f.Alloc(t.Context()); err != nil {
			t.Errorf("afterwards: %v", err)
		}
		f.OnAlloc.Refuse(time.Hour, errTest)
		f.OnAlloc.FailRange(1, math.MaxInt, nil)
		f.OnAlloc.Clear()
		if _, err := f.Alloc(t.Context()); err != nil {
			t.Errorf("after Clear: %v", err)
		}
	})
}

// Calls wait for the last Block that holds, or for their context, and reach the source only then.
func TestFaultyBlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, live := newCounted()
		one, two := f.OnAlloc.Block(), f.OnAlloc.Block()
		ended, cancel := context.WithCancel(t.Context())
		errs := make(chan error, 4)
		for _, ctx := range []context.Context{t.Context(), t.Context(), ended} {
			go func() { _, err := f.Alloc(ctx); errs <- err }()
		}
		synctest.Wait()
		if n := f.OnAlloc.Stats().Waiting; n != 3 || live() != 0 {
			t.Fatalf("%d waiting, %d exist", n, live())
		}
		cancel()
		if err := <-errs; err != context.Canceled {
			t.Errorf("context ended: %v", err)
		}
		one()
		one()
		synctest.Wait()
		if n := f.OnAlloc.Stats().Waiting; n != 2 || live() != 0 {
			t.Fatalf("one Block holds: %d waiting, %d exist", n, live())
		}
		two()
		for range 2 {
			if err := <-errs; err != nil {
				t.Errorf("released: %v", err)
			}
		}
		if s := f.OnAlloc.Stats(); s != (FaultStats{Calls: 3}) || f.Outstanding() != 2 {
			t.Errorf("%+v, %d out", s, f.Outstanding())
		}

		release := f.OnFree.Block()
		go func() { errs <- f.Free(1) }()
		synctest.Wait()
		f.OnFree.Clear()
		if err := <-errs; err != nil {
			t.Errorf("Free after Clear: %v", err)
		}
		release() // harmless
	})
}

func TestFaultyEndedContext(t *testing.T) {
	f, live := newCounted()
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	f.OnAlloc.FailNth(1, errTest)
	if _, err := f.Alloc(ended); err != context.Canceled || live() != 0 {
		t.Errorf("Alloc: %v", err)
	}
	if s := f.OnAlloc.Stats(); s != (FaultStats{Calls: 1}) {
		t.Errorf("%+v", s)
	}
}

// However calls overlap, each number is given once.
func TestFaultyConcurrent(t *testing.T) {
	f, live := newCounted()
	f.OnAlloc.FailRange(101, 150, nil)
	f.OnFree.FailRange(11, 20, nil)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				if e, err := f.Alloc(context.Background()); err == nil {
					f.Free(e)
				} else if err != ErrInjected {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if a, b := f.OnAlloc.Stats(), f.OnFree.Stats(); a != (FaultStats{Calls: 800, Failed: 50}) || b != (FaultStats{Calls: 750, Failed: 10}) {
		t.Errorf("%+v, %+v", a, b)
	}
	if f.Outstanding() != 0 || f.Lost() != 10 || live() != 10 {
		t.Errorf("%d out, %d lost, %d exist", f.Outstanding(), f.Lost(), live())
	}
	if err := f.Reclaim(); err != nil || live() != 0 {
		t.Errorf("Reclaim: %v, %d exist", err, live())
	}
}

// A pool grows again after its source refused for a while, and reports what Free lost.
func TestFaultyPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, live := newCounted()
		pool, err := respool.New(t.Context(), f, respool.Options{Low: 2, High: 4, Max: 8})
		if err != nil {
			t.Fatal(err)
		}
		f.OnAlloc.Refuse(time.Minute, errTest)
		var have []int
		for {
			e, err := pool.Get()
			if err != nil {
				break
			}
			have = append(have, e)
		}
		time.Sleep(30 * time.Second)
		if _, err := pool.Get(); !errors.Is(err, respool.ErrEmpty) || f.OnAlloc.Stats().Failed == 0 {
			t.Errorf("Get while the source refuses: %v, %+v", err, f.OnAlloc.Stats())
		}
		time.Sleep(40 * time.Second)
		if e, err := pool.Get(); err != nil {
			t.Errorf("Get afterwards: %v", err)
		} else {
			have = append(have, e)
		}
		for _, e := range have {
			if err := pool.Put(e); err != nil {
				t.Error(err)
			}
		}
		f.OnFree.FailNth(f.OnFree.Stats().Calls+1, errTest)
		if err := pool.Close(t.Context()); !errors.Is(err, respool.ErrFree) || !errors.Is(err, errTest) {
			t.Errorf("Close: %v", err)
		}
		if f.Outstanding() != 0 || f.Lost() != 1 || live() != 1 {
			t.Errorf("%d out, %d lost, %d exist", f.Outstanding(), f.Lost(), live())
		}
	})
}

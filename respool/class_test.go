package respool

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// Each class is refused at its mark, whatever it asks with, and the ones above it go on.
func TestClasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, holdAndWait(t, Options{Low: 8, Max: 8, OrdinaryMark: 4, AtomicMark: 2}))
		v.setFail(always)
		left := []int{Ordinary: 4, Atomic: 2, Critical: 0}
		for c := Ordinary; c < classes; c++ {
			a, free := p.As(c), left[c]
			var es []int
			for p.Stats().Free > free {
				e, err := a.Get()
				if err != nil {
					t.Fatalf("%v with %d free: %v", c, p.Stats().Free, err)
				}
				es = append(es, e)
			}
			wantNothing(t, c, a)
			cache := a.NewCache(8)
			if _, err := cache.Get(); !errors.Is(err, ErrEmpty) {
				t.Errorf("%v through a cache: %v", c, err)
			}
			put(t, p, es...)
			for n := 1; n <= 8; n++ {
				want := n <= 8-free
				batch := make([]int, n)
				err := a.GetBatch(batch)
				if (err == nil) != want || !want && !errors.Is(err, ErrBatch) {
					t.Errorf("%v, a batch of %d: %v", c, n, err)
				}
				if err == nil {
					put(t, p, batch...)
				}
				r, err := a.Reserve(n)
				if (err == nil) != want || !want && !errors.Is(err, ErrReserve) {
					t.Errorf("%v, a reservation of %d: %v", c, n, err)
				}
				if err == nil {
					_ = r.Return()
				}
			}
			e, err := cache.Get()
			if err != nil || p.Stats().Free < free {
				t.Errorf("%v: a cache left %d free: %v", c, p.Stats().Free, err)
			}
			if err := errors.Join(cache.Put(e), cache.Close()); err != nil {
				t.Error(err)
			}
		}
		v.setFail(nil)
		end(t, p, v)
	})
}

// wantNothing checks that nothing can be had through a.
func wantNothing(t *testing.T, c Class, a Access[int]) {
	t.Helper()
	if _, err := a.Get(); !errors.Is(err, ErrEmpty) {
		t.Errorf("%v, Get: %v", c, err)
	}
	if err := a.GetBatch(make([]int, 1)); !errors.Is(err, ErrEmpty) {
		t.Errorf("%v, GetBatch: %v", c, err)
	}
	if _, err := a.Reserve(1); !errors.Is(err, ErrEmpty) {
		t.Errorf("%v, Reserve: %v", c, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := a.GetWait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, GetWait: %v", c, err)
	}
	if _, err := a.ReserveWait(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, ReserveWait: %v", c, err)
	}
	if err := a.p.Wait(ctx); c == Ordinary && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, Wait: %v", c, err)
	}
}

// Who waits gets what the worker adds above the mark of his class, not below it.
func TestClassesWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, Options{Low: 4, High: 4, Max: 8, OrdinaryMark: 3, AtomicMark: 1})
		v.setFail(always)
		es := get(t, p, 1)
		ordinary := make(chan *Reservation[int])
		go func() {
			r, err := p.ReserveWait(t.Context(), 2)
			if err != nil {
				t.Error(err)
			}
			ordinary <- r
		}()
		synctest.Wait()
		e, err := p.As(Atomic).Get()
		if err != nil {
			t.Errorf("the atomic request: %v", err)
		}
		v.setFail(nil)
		r := <-ordinary
		if s := p.Stats(); s.Free < 3 || r.Len() != 2 {
			t.Errorf("%+v, reserved %d", s, r.Len())
		}
		if err := r.Return(); err != nil {
			t.Error(err)
		}
		put(t, p, append(es, e)...)
		end(t, p, v)
	})
}

func TestReserveAllHonoursClasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, w := newVault(t), newVault(t)
		p := open(t, v, Options{Low: 4, High: 4, Max: 4, OrdinaryMark: 2})
		q := open(t, w, Options{Low: 4, High: 4, Max: 4})
		ordinary, critical, other := reserve(t, p, 0), reserve(t, p, 0), reserve(t, q, 0)
		critical.class = Critical
		if err := ReserveAll(ordinary.Need(3), other.Need(1)); !errors.Is(err, ErrReserve) {
			t.Errorf("more than an ordinary request may ever have: %v", err)
		}
		if err := ReserveAll(ordinary.Need(2), other.Need(1)); err != nil {
			t.Error(err)
		}
		if err := ReserveAll(ordinary.Need(1), other.Need(1)); err == nil || other.Len() != 1 {
			t.Errorf("below the mark: %v", err)
		}
		if err := ReserveAll(critical.Need(2), other.Need(1)); err != nil {
			t.Error(err)
		}
		if err := errors.Join(ordinary.Return(), critical.Return(), other.Return()); err != nil {
			t.Error(err)
		}
		end(t, p, v)
		end(t, q, w)
	})
}

// Parts of several classes make a request of the lowest, also where no class has a mark and whichever
// part comes first.
func TestReserveAllOfClassesIsOfTheLowest(t *testing.T) {
	v := newVault(t)
	p := open(t, v, Options{Low: 4, High: 4, Max: 4})
	ordinary, critical := reserve(t, p, 0), reserve(t, p, 0)
	critical.class = Critical
	waiter := place{&p.line, Ordinary, 4}
	waiter.bar(true)
	for _, parts := range [][]Part{{ordinary.Need(1), critical.Need(1)}, {critical.Need(1), ordinary.Need(1)}} {
		if err := ReserveAll(parts...); !errors.Is(err, ErrEmpty) {
			t.Errorf("an ordinary part was taken from who waits: %v", err)
		}
	}
	if err := ReserveAll(critical.Need(1)); err != nil {
		t.Errorf("the critical one alone: %v", err)
	}
	waiter.bar(false)
	if err := errors.Join(ordinary.Return(), critical.Return()); err != nil {
		t.Error(err)
	}
	end(t, p, v)
}

func TestClassNames(t *testing.T) {
	if s := Ordinary.String() + Atomic.String() + Critical.String() + Class(3).String(); s != "ordinaryatomiccriticalunknown" {
		t.Error(s)
	}
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, Options{Low: 4, Max: 4, OrdinaryMark: 1})
		if err := p.As(200).GetBatch(make([]int, 4)); !errors.Is(err, ErrBatch) {
			t.Errorf("a class that does not exist may take what an ordinary one may not: %v", err)
		}
		end(t, p, v)
	})
}

func TestMarksThatCannotBe(t *testing.T) {
	for _, o := range []Options{
		{OrdinaryMark: -1}, {AtomicMark: -1}, {AtomicMark: 1}, {OrdinaryMark: 2, AtomicMark: 3},
		{OrdinaryMark: 4, Low: 4}, {OrdinaryMark: 5, Low: 4}, {OrdinaryMark: 8, Max: 8}, {Max: None, OrdinaryMark: 1},
	} {
		if _, err := o.resolve(0); !errors.Is(err, ErrBadOptions) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	for _, o := range []Options{{OrdinaryMark: 100}, {OrdinaryMark: 3, AtomicMark: 3, Low: 4, Max: 4}} {
		if got, err := o.resolve(0); err != nil || got.Low <= got.OrdinaryMark {
			t.Errorf("%+v gives %+v, %v", o, got, err)
		}
	}
}

// Who waits for what lies above the mark of his class keeps nobody of a class above from what lies
// below it: not from waiting in front of him, and not from taking it at once.
func TestClassesPassEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, holdAndWait(t, Options{Low: 3, High: 3, Max: 3, OrdinaryMark: 2, AtomicMark: 1}))
		v.setFail(always)
		es := get(t, p, 1)
		stop, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 2)
		go func() { _, err := p.GetWait(stop); ended <- err }()
		synctest.Wait()
		for range 1000 { // also while he lets elements gather
			e, err := p.As(Atomic).Get()
			if err != nil {
				t.Fatalf("an atomic request behind an ordinary one that waits: %v", err)
			}
			time.Sleep(time.Millisecond)
			put(t, p, e)
		}
		e, err := p.As(Atomic).GetWait(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, err := p.As(Atomic).GetWait(stop); ended <- err }()
		synctest.Wait()
		f, err := p.As(Critical).GetWait(t.Context())
		if err != nil || p.Stats().Waiting != 2 {
			t.Fatalf("%v; %+v", err, p.Stats())
		}
		put(t, p, f)
		cancel()
		for range 2 {
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
		v.setFail(nil)
		put(t, p, append(es, e)...)
		end(t, p, v)
	})
}

// Those who wait bar their own class and those below, and the ones above bar them.
func TestClassesBar(t *testing.T) {
	for c := Ordinary; c < classes; c++ {
		for other := Ordinary; other < classes; other++ {
			if got := barred(other)&heldBy(c) != 0; got != (c >= other) {
				t.Errorf("who waits as %v bars %v: %v", c, other, got)
			}
			if got := overtaken(other)&heldBy(c) != 0; got != (c > other) {
				t.Errorf("who waits as %v bars the first that waits as %v: %v", c, other, got)
			}
		}
		if barred(c)&^held != closing || barred(c)&overtaken(c) != overtaken(c) {
			t.Errorf("%v: %#x, %#x", c, barred(c), overtaken(c))
		}
	}
}

package respool

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/google/go-cmp/cmp"
)

func reserve(t testing.TB, p *Pool[int], n int) *Reservation[int] {
	t.Helper()
	r, err := p.Reserve(n)
	if err != nil {
		t.Fatalf("Reserve(%d): %v; %+v", n, err, p.Stats())
	}
	return r
}

func TestReserveIsAllOrNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, Options{Name: "p", Low: 4, Max: 8})
		for n, want := range map[int]error{5: ErrEmpty, 9: ErrReserve, -1: ErrReserve} {
			if r, err := p.Reserve(n); r != nil || !errors.Is(err, want) {
				t.Errorf("Reserve(%d): %v, want %v", n, err, want)
			}
		}
		if diff := cmp.Diff(Stats{Free: 4, LowestFree: 4, Filled: 4, Empty: 1}, p.Stats()); diff != "" {
			t.Error(diff)
		}
		_, err := p.Reserve(9)
		if want := `respool: reserve "p": more elements than the pool can ever have: ask for 0 to 8, or raise Max`; err.Error() != want {
			t.Errorf("%q is not %q", err, want)
		}
		r := reserve(t, p, 3)
		if s := p.Stats(); s.Free != 1 || s.Reserved != 3 || s.InUse != 0 || s.LowestFree != 1 || s.Gets != 3 {
			t.Errorf("%+v", s)
		}
		if err := r.Return(); err != nil {
			t.Error(err)
		}
		end(t, p, v)
	})
}

// The pool is empty, its source fails and it is being closed: draws go on.
func TestDrawsCannotFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, Options{Low: 6, Max: 6})
		r := reserve(t, p, 4)
		v.setFail(always)
		es := get(t, p, 2)
		if _, err := p.Get(); !errors.Is(err, ErrEmpty) {
			t.Errorf("Get beside the reservation: %v", err)
		}
		after(time.Second)
		draw := func() {
			t.Helper()
			e, err := r.Get()
			if err != nil {
				t.Fatalf("%v; %d left", err, r.Len())
			}
			es = append(es, e)
		}
		draw()
		v.setFail(nil)
		wantLeak(t, p.Close(ended()), 6, context.Canceled)
		draw()
		var op *OpError
		if err := p.Close(ended()); !errors.As(err, &op) || op.Reserved != 2 || op.Out != 6 {
			t.Errorf("Close: %v", err)
		}
		if err := r.Return(); !errors.Is(err, ErrClosed) || r.Len() != 2 {
			t.Errorf("Return after Close: %v, %d left", err, r.Len())
		}
		done := make(chan error, 1)
		go func() { done <- p.Close(context.Background()) }()
		synctest.Wait()
		draw()
		if err := r.Put(es[0]); err != nil { // the promise holds while Close waits
			t.Error(err)
		}
		draw()
		put(t, p, es[1:]...)
		if err := r.Return(); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		end(t, p, v)
	})
}

func TestReservePutForeign(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, Options{Low: 2, Max: 2})
		r := reserve(t, p, 1)
		if err := r.Put(99); !errors.Is(err, ErrForeign) || r.Len() != 1 {
			t.Errorf("Put of what was never got: %v", err)
		}
		if err := r.Return(); err != nil {
			t.Error(err)
		}
		end(t, p, v)
	})
}

// Reserving is demand: the worker makes up for it as for gets.
func TestReserveIsSeenByTheWorker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, Options{Low: 4, High: 8, Max: 64})
		r := reserve(t, p, 3)
		rest()
		if s := p.Stats(); s.Free != 8 || s.Reserved != 3 {
			t.Errorf("%+v", s)
		}
		if err := r.Return(); err != nil {
			t.Error(err)
		}
		end(t, p, v)
	})
}

// Nine were reserved since the last look: if nine more go, two are left.
func TestReservingIsForecast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, Options{Min: 20, Low: 4, High: 20, Max: 64})
		rest()
		r := reserve(t, p, 9)
		rest()
		if s := p.Stats(); s.Free != 20 || s.Grown != 9 {
			t.Errorf("%+v", s)
		}
		wantReturn(t, r)
		end(t, p, v)
	})
}

func TestReservationKeepsNothingAlive(t *testing.T) {
	p, err := New(context.Background(), pointers{}, Options{Low: 2, Max: 2, MinInterval: 1 << 40})
	if err != nil {
		t.Fatal(err)
	}
	r, err := p.Reserve(2)
	if err != nil {
		t.Fatal(err)
	}
	e, _ := r.Get()
	w := weak.Make(e)
	runtime.KeepAlive(e)
	runtime.GC()
	if w.Value() != nil {
		t.Error("what was drawn is referenced by the pool")
	}
	if debugging { // which refuses another element in its place, if it has another address
		_ = r.Return()
		wantLeak(t, p.Close(ended()), 1, context.Canceled)
		return
	}
	if err := errors.Join(r.Put(new([64]byte)), r.Return(), p.Close(context.Background())); err != nil {
		t.Error(err)
	}
}

func TestReservationsAllocateNothing(t *testing.T) {
	if debugging {
		t.Skip("a debug build allocates")
	}
	v := newVault(t)
	p := open(t, v, Options{Low: 8, High: 8, Max: 8, MinInterval: 1 << 40})
	w := newVault(t)
	q := open(t, w, Options{Low: 8, High: 8, Max: 8, MinInterval: 1 << 40})
	kept, other := reserve(t, p, 0), reserve(t, q, 0)
	for name, f := range map[string]func(){
		"in the function": func() {
			r, _ := p.Reserve(4)
			s, _ := r.Split(2)
			e, _ := s.Get()
			_, _, _ = r.Put(e), r.Return(), s.Return()
		},
		"add": func() {
			_ = kept.Add(4)
			e, _ := kept.Get()
			_, _ = p.Put(e), kept.Return()
		},
		"refused": func() {
			_, err := p.Reserve(9)
			_, _ = err, kept.Add(-1)
			_, _ = kept.Get()
		},
		"all":         func() { _, _, _ = ReserveAll(other.Need(2), kept.Need(3)), kept.Return(), other.Return() },
		"all refused": func() { _ = ReserveAll(other.Need(2), kept.Need(9)) },
	} {
		if n := testing.AllocsPerRun(1000, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	if s := p.Stats(); s.Free != 8 || s.InUse != 0 {
		t.Errorf("%+v", s)
	}
	end(t, p, v)
	end(t, q, w)
}

func TestNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		v.fail = always
		p := open(t, v, Options{Name: "none", Max: None})
		_, err := p.Get()
		if !errors.Is(err, ErrEmpty) {
			t.Errorf("Get: %v", err)
		}
		c := p.NewCache(4)
		if _, err := c.Get(); !errors.Is(err, ErrEmpty) {
			t.Errorf("Get of a cache: %v", err)
		}
		if err := p.Put(1); !errors.Is(err, ErrForeign) {
			t.Errorf("Put: %v", err)
		}
		if err := reserve(t, p, 0).Return(); err != nil {
			t.Error(err)
		}
		if _, err := p.ReserveWait(t.Context(), 1); !errors.Is(err, ErrReserve) {
			t.Errorf("ReserveWait: %v", err)
		}
		if _, err := p.GetWait(t.Context()); !errors.Is(err, ErrReserve) {
			t.Errorf("GetWait: %v", err)
		}
		if err := p.Wait(t.Context()); !errors.Is(err, ErrReserve) {
			t.Errorf("Wait: %v", err)
		}
		after(time.Minute)
		if v.allocCalls() != 0 {
			t.Error("the source was asked")
		}
		end(t, p, v)
		for _, o := range []Options{{Max: None, Min: 1}, {Max: None, Low: 1}, {Max: None, MinInterval: -1}} {
			if _, err := New(t.Context(), v, o); !errors.Is(err, ErrBadOptions) {
				t.Errorf("%+v: %v", o, err)
			}
		}
	})
}

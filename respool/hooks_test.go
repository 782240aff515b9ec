package respool

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

func TestOnSourceError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		var errs []error
		p := open(t, v, Options{Low: 4, High: 8, OnSourceError: func(err error) { errs = append(errs, err) }})
		v.setFail(always)
		es := get(t, p, 4)
		after(time.Second)
		s := p.Stats()
		if len(errs) == 0 || len(errs) != int(s.SourceErrors) || !errors.Is(s.LastError, errVault) {
			t.Errorf("told of %d: %+v", len(errs), s)
		}
		for _, err := range errs {
			if !errors.Is(err, errVault) {
				t.Errorf("told of %v", err)
			}
		}
		told := len(errs)
		v.setFail(nil)
		put(t, p, es...)
		after(2 * time.Second)
		if s := p.Stats(); len(errs) != told || s.LastError != nil || s.Free < 8 {
			t.Errorf("after recovery told of %d more: %+v", len(errs)-told, s)
		}
		end(t, p, v)
	})
}

// However many were answered ErrEmpty, there is one call when something is back, and none without.
func TestOnReturnedOncePerTransition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		calls := 0
		p := open(t, v, Options{Max: 2, OnReturned: func() { calls++ }})
		es := get(t, p, 1)
		rest()
		es = append(es, get(t, p, 1)...)
		rest()
		for i := range 3 {
			for range 5 {
				if _, err := p.Get(); !errors.Is(err, ErrEmpty) {
					t.Fatal(err)
				}
				rest()
			}
			if calls != i {
				t.Errorf("%d calls before the %dth time that something is back", calls, i+1)
			}
			put(t, p, es...)
			rest()
			rest()
			if calls != i+1 {
				t.Errorf("%d calls after the %dth time", calls, i+1)
			}
			es = get(t, p, 2)
			rest()
		}
		put(t, p, es...)
		end(t, p, v)
	})
}

// One who takes all there is until ErrEmpty, and comes back when called, gets everything that is put, whenever it is.
func TestOnReturnedLosesNoWakeUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(struct{ rapid.TB }{t}, func(rt *rapid.T) { // see TestModel
			v := newVault(t)
			var mu sync.Mutex
			var p *Pool[int]
			var taken []int
			drain := func() {
				mu.Lock()
				defer mu.Unlock()
				for {
					e, err := p.Get()
					if err != nil {
						return
					}
					taken = append(taken, e)
				}
			}
			max := rapid.IntRange(1, 6).Draw(rt, "max")
			p = open(t, v, Options{Max: max, OnReturned: drain})
			rt.Cleanup(func() { _ = p.Close(ended()) }) // a failed check leaves no worker in the bubble
			drain()
			after(time.Second) // grown to Max, all of it taken
			for range rapid.IntRange(1, 20).Draw(rt, "puts") {
				mu.Lock()
				k := rapid.IntRange(0, len(taken)).Draw(rt, "k")
				put(t, p, taken[:k]...)
				taken = taken[k:]
				mu.Unlock()
				after(time.Duration(rapid.IntRange(0, 12_000).Draw(rt, "µs")) * time.Microsecond)
			}
			after(time.Second)
			mu.Lock()
			defer mu.Unlock()
			if s := p.Stats(); len(taken) != max || s.Free != 0 {
				rt.Errorf("%d of %d taken: %+v", len(taken), max, s)
			}
			for e := range v.live {
				put(t, p, e)
			}
			if err := p.Close(t.Context()); err != nil && !errors.Is(err, ErrLeaked) {
				rt.Error(err)
			}
		})
	})
}

// A hook that calls Close is told that the worker is busy, which is itself, when its context ends; then the pool
// can be closed.
func TestCloseInHook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		var p *Pool[int]
		var inHook error
		p = open(t, v, Options{Max: 1, OnReturned: func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			inHook = p.Close(ctx)
		}})
		es := get(t, p, 1)
		if _, err := p.Get(); !errors.Is(err, ErrEmpty) {
			t.Fatal(err)
		}
		rest()
		put(t, p, es...)
		after(2 * time.Second)
		if !errors.Is(inHook, ErrSourceBusy) || !errors.Is(inHook, context.DeadlineExceeded) {
			t.Errorf("Close in the hook: %v", inHook)
		}
		end(t, p, v)
	})
}

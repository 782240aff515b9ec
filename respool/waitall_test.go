package respool

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// Whichever of its pools is closed, a call that waits learns of it at once: when it is the first in
// all lines, and when others are before it in the line of the other pool.
func TestCloseOfAnyPoolEndsWaiting(t *testing.T) {
	for name, behind := range map[string]bool{"first": false, "behind others": true} {
		for closed := range 2 {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					vs := []*vault{newVault(t), newVault(t)}
					ps := []*Pool[int]{open(t, vs[0], dry(2)), open(t, vs[1], dry(2))}
					es := get(t, ps[1-closed], 2) // the one that stays open lacks
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					before := make(chan error, 1)
					if behind {
						go func() { before <- ps[1-closed].Wait(ctx) }()
						synctest.Wait()
					}
					a, b := reserveNone(ps[0]), reserveNone(ps[1])
					limit, stop := context.WithTimeout(t.Context(), time.Hour)
					defer stop()
					done := make(chan error, 1)
					go func() { done <- ReserveAllWait(limit, a.Need(1), b.Need(1)) }()
					synctest.Wait()
					start := time.Now()
					end(t, ps[closed], vs[closed])
					if err := <-done; !errors.Is(err, ErrClosed) {
						t.Errorf("closed pool %d: %v", closed, err)
					}
					if took := time.Since(start); took != 0 {
						t.Errorf("closed pool %d: took %v", closed, took)
					}
					cancel()
					if behind {
						<-before
					}
					put(t, ps[1-closed], es...)
					end(t, ps[1-closed], vs[1-closed])
				})
			})
		}
	}
}

// Each pool of a call is looked at as often as its options say, even if its worker is stuck.
func TestWaitingLooksAsOftenAsAnyOfItsPools(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, w := newVault(t), newVault(t)
		slow := dry(1)
		slow.MinInterval, slow.MaxInterval = time.Hour, time.Hour
		p := open(t, v, slow)
		q := open(t, w, Options{Low: 1, High: 1, Max: 8})
		block := make(chan struct{})
		w.block = block
		fs := get(t, q, 1)
		after(time.Second) // the worker of q is inside the source
		a, b := reserveNone(p), reserveNone(q)
		done := make(chan error, 1)
		go func() { done <- ReserveAllWait(t.Context(), a.Need(1), b.Need(1)) }()
		after(time.Second)
		put(t, q, fs...)
		start := time.Now()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took > defaultMaxInterval {
			t.Errorf("took %v", took)
		}
		wantReturn(t, a, b)
		close(block)
		end(t, p, v)
		end(t, q, w)
	})
}

// The first in the line bars the others after 10 ms, whatever MaxInterval is and though no look of
// the worker finds anything free.
func TestBarrierKeepsItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		o := dry(2)
		o.MaxInterval = time.Hour
		p := open(t, v, o)
		es := get(t, p, 2)
		done := make(chan error, 1)
		go func() { done <- p.Wait(t.Context()) }()
		after(firstPatience + time.Millisecond)
		if p.ready.head.Load()&held == 0 {
			t.Error("others are let")
		}
		after(firstPatience)
		if p.ready.head.Load()&held != 0 {
			t.Error("others are refused")
		}
		put(t, p, es...)
		if err := <-done; err != nil {
			t.Error(err)
		}
		end(t, p, v)
	})
}

// Nothing is there at once, whoever waits for something.
func TestWaitingForNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, w := newVault(t), newVault(t)
		p, q := open(t, v, dry(2)), open(t, w, dry(2))
		es := get(t, p, 2)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Wait(ctx) }()
		synctest.Wait()
		start := time.Now()
		limit, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		if _, err := p.ReserveWait(limit, 0); err != nil {
			t.Error(err)
		}
		a, b := reserveNone(p), reserveNone(q)
		if err := ReserveAllWait(limit, a.Need(0), b.Need(1)); err != nil || b.Len() != 1 {
			t.Errorf("%v, has %d", err, b.Len())
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("took %v", took)
		}
		cancel()
		<-done
		wantReturn(t, b)
		put(t, p, es...)
		end(t, p, v)
		end(t, q, w)
	})
}

// Who waits for a token learns of Close: the last token is followed by ErrClosed.
func TestCloseSendsTheLastToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, dry(1))
		es := get(t, p, 1)
		if _, err := p.Get(); !errors.Is(err, ErrEmpty) {
			t.Error(err)
		}
		closed := make(chan error, 1)
		go func() { closed <- p.Close(t.Context()) }()
		limit, stop := context.WithTimeout(t.Context(), time.Hour)
		defer stop()
		select {
		case <-p.Returned():
		case <-limit.Done():
			t.Error("no token")
		}
		if _, err := p.Get(); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
		put(t, p, es...)
		if err := <-closed; err != nil {
			t.Error(err)
		}
		end(t, p, v)
	})
}

// A pool that has enough does not grow because it keeps elements for who waits for another pool.
func TestBarredGetsAreNoDemand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, w := newVault(t), newVault(t)
		p := open(t, v, Options{Min: 8, Low: 2, High: 8, Max: 64})
		q := open(t, w, dry(1))
		fs := get(t, q, 1)
		a, b := reserveNone(p), reserveNone(q)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- ReserveAllWait(ctx, a.Need(1), b.Need(1)) }()
		refused := uint64(0)
		for range 1000 {
			after(time.Millisecond)
			if e, err := p.Get(); err == nil {
				put(t, p, e)
			} else {
				refused++
			}
			if err := ReserveAll(a.Need(1)); err == nil {
				wantReturn(t, a)
			} else {
				refused++
			}
		}
		if s := p.Stats(); s.Grown != 0 || refused == 0 || s.Empty < refused {
			t.Errorf("refused %d: %+v", refused, s)
		}
		cancel()
		<-done
		put(t, q, fs...)
		end(t, p, v)
		end(t, q, w)
	})
}

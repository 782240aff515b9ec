package respool

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The worker looks often under demand and seldom at rest.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, Options{Low: 4, High: 8, Max: 64})
		w := newWorker(p) // beside the pool's own, which sleeps: no time passes
		look := func() time.Duration { w.pace(w.look(time.Now())); return w.interval }
		var got []time.Duration
		for range 6 {
			got = append(got, look()/time.Microsecond)
		}
		for range 5 { // demand, but Low is not touched
			put(t, p, get(t, p, 1)...)
			p.dip.Store(noDip)
			got = append(got, look()/time.Microsecond)
		}
		for range 6 {
			look()
		}
		es := get(t, p, 1)
		got = append(got, look()/time.Microsecond) // below Low
		if diff := cmp.Diff([]time.Duration{1000, 2000, 4000, 8000, 10000, 10000, 5000, 2500, 1250, 625, 500, 500}, got); diff != "" {
			t.Error(diff)
		}
		put(t, p, es...)
		end(t, p, v)
	})
}

// A pool at rest with High free is looked at seldom, until somebody gets something.
func TestRests(t *testing.T) {
	looks := func(p *Pool[int]) (n int) {
		last := p.view.at.Load()
		for range 1000 {
			after(time.Millisecond)
			if at := p.view.at.Load(); at != last {
				last = at
				n++
			}
		}
		return n
	}
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, Options{Min: 8, Low: 4, High: 8, Max: 64})
		after(500 * time.Microsecond)
		for range 100 { // never a second without a Get
			after(900 * time.Millisecond)
			put(t, p, get(t, p, 1)...)
		}
		if at := p.view.at.Load(); time.Since(p.view.start)-time.Duration(at) > 10*time.Millisecond {
			t.Error("it rested between gets")
		}
		after(2 * time.Second)
		if n := looks(p); n < 9 || n > 11 {
			t.Errorf("%d looks a second at rest", n)
		}
		es := get(t, p, 1)
		for at := p.view.at.Load(); p.view.at.Load() == at; {
			after(time.Millisecond)
		}
		if n := looks(p); n < 100 {
			t.Errorf("%d looks in the second after a Get was seen", n)
		}
		after(2 * time.Second)
		if n := looks(p); n < 99 {
			t.Errorf("%d looks a second with fewer than High free", n)
		}
		put(t, p, es...)
		after(2 * time.Second)
		done := make(chan struct{})
		go func() {
			defer close(done)
			r, err := p.ReserveWait(t.Context(), 64)
			if err != nil {
				t.Error(err)
				return
			}
			if err := r.Return(); err != nil {
				t.Error(err)
			}
		}()
		after(2 * time.Millisecond)
		select {
		case <-done:
		default:
			t.Error("who waits was not served by a pool at rest")
		}
		end(t, p, v)
	})
}

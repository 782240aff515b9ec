//go:build debug

package respool

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
)

//go:noinline
func waitHere(p *Pool[int]) int { return must(p.GetWait(context.Background())) }

//go:noinline
func reserveHere(p *Pool[int], n int) *Reservation[int] { return must(p.Reserve(n)) }

// pools are n pools that tell h.
func pools(t *testing.T, h *hearer, names ...string) (ps []*Pool[int], end func()) {
	t.Helper()
	for i, name := range names {
		ps = append(ps, newPool(t, &numbers{n: 100 * i, step: 1}, Options{Name: name, Low: 8, Max: 8, OnReport: h.hear}))
	}
	return ps, func() {
		t.Helper()
		for _, p := range ps {
			if err := p.Close(context.Background()); err != nil {
				t.Error(err)
			}
		}
		h.quiet(t)
		graph.mu.Lock()
		defer graph.mu.Unlock()
		for n := range graph.pools {
			for to := range n.edges {
				if to.gone {
					t.Errorf("%v has an edge to %v, which is closed", n, to)
				}
			}
		}
		for _, pools := range graph.holds {
			for n := range pools {
				for _, p := range ps {
					if n == p.debug.node {
						t.Errorf("%v is closed and still held in the graph", n)
					}
				}
			}
		}
	}
}

// A circle is reported when its last edge is seen, although nobody had to wait, and once.
func TestPoolCycle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hearer{}
		ps, end := pools(t, h, "a", "b", "c")
		for i, from := range ps {
			h.quiet(t)
			e := firstGet(from)
			to := ps[(i+1)%3]
			f := waitHere(to)
			put(t, from, e)
			put(t, to, f)
		}
		r := h.one(t, PoolCycle, "firstGet", "waitHere", "firstGet", "waitHere", "firstGet", "waitHere")
		if want := `"a" -> "b" -> "c" -> "a"`; r.Detail != want || r.Pool != "a" {
			t.Errorf("%q: %q, not %q", r.Pool, r.Detail, want)
		}
		for i, from := range ps {
			e, f := firstGet(from), waitHere(ps[(i+1)%3])
			put(t, from, e)
			put(t, ps[(i+1)%3], f)
		}
		end()
	})
}

// To hold elements of a pool and wait for more of it is a circle of one.
func TestPoolCycleOfOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hearer{}
		ps, end := pools(t, h, "a")
		for wait, f := range map[string]func(p *Pool[int]) error{
			"GetWait": func(p *Pool[int]) error {
				e, err := p.GetWait(t.Context())
				put(t, p, e)
				return err
			},
			"Wait": func(p *Pool[int]) error { return p.Wait(t.Context()) },
			"ReserveWait": func(p *Pool[int]) error {
				r, err := p.ReserveWait(t.Context(), 1)
				_ = r.Return()
				return err
			},
			"ReserveAllWait": func(p *Pool[int]) error {
				r := must(p.Reserve(0))
				err := ReserveAllWait(t.Context(), r.Need(1))
				_ = r.Return()
				return err
			},
			"As": func(p *Pool[int]) error {
				e, err := p.As(Critical).GetWait(t.Context())
				put(t, p, e)
				return err
			},
		} {
			p := newPool(t, &numbers{step: 1}, Options{Low: 8, Max: 8, OnReport: h.hear})
			r := reserveHere(p, 1)
			if err := f(p); err != nil {
				t.Error(err)
			}
			report := h.one(t, PoolCycle, "reserveHere", "TestPoolCycleOfOne.func1")
			if n := strings.Count(report.Detail, "#"); n != 2 || report.Count != 0 {
				t.Errorf("%s: %q, %d elements", wait, report.Detail, report.Count)
			}
			if err := r.Return(); err != nil {
				t.Error(err)
			}
			if err := p.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}
		put(t, ps[0], waitHere(ps[0]))
		end()
	})
}

// Who takes all in one call, or has put back what it had, makes no edge; nor does another goroutine.
func TestNoPoolCycle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hearer{}
		ps, end := pools(t, h, "a", "b")
		a, b := must(ps[0].Reserve(0)), must(ps[1].Reserve(0))
		for range 2 {
			if err := ReserveAllWait(t.Context(), a.Need(2), b.Need(1), a.Need(1)); err != nil {
				t.Error(err)
			}
			ps[0], ps[1] = ps[1], ps[0]
			_, _ = a.Return(), b.Return()
		}
		for i := range ps {
			put(t, ps[i], firstGet(ps[i]))
			put(t, ps[1-i], waitHere(ps[1-i]))
		}
		e := firstGet(ps[0])
		done := make(chan struct{})
		go func() {
			defer close(done)
			put(t, ps[0], waitHere(ps[0]))
			f := firstGet(ps[1])
			put(t, ps[0], e) // another goroutine's
			put(t, ps[1], f)
		}()
		<-done
		put(t, ps[0], waitHere(ps[0]))
		end()
	})
}

// A closed pool is on no circle any more.
func TestClosedPoolLeavesTheGraph(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hearer{}
		ps, end := pools(t, h, "a", "b", "c")
		for i, from := range ps[:2] {
			e, f := firstGet(from), waitHere(ps[i+1])
			put(t, from, e)
			put(t, ps[i+1], f)
		}
		firstGet(ps[1]) // and is lost
		if err := ps[1].Close(ended()); !errors.Is(err, ErrLeaked) {
			t.Error(err)
		}
		h.one(t, Leaked, "firstGet")
		if n := ps[1].debug.node; graph.pools[n] || len(graph.holds) != 0 || len(ps[0].debug.node.edges) != 0 {
			t.Errorf("%v is still in the graph", n)
		}
		p := newPool(t, &numbers{step: 1}, Options{Low: 2, Max: 2})
		ps[1] = p
		e, f := firstGet(ps[2]), waitHere(ps[0])
		put(t, ps[2], e)
		put(t, ps[0], f)
		end()
	})
}

// The report goes to a pool of the circle that has somebody to hear it, if there is one, and else
// is in the error of a Close.
func TestPoolCycleIsHeard(t *testing.T) {
	for name, hears := range map[string]bool{"by another pool": true, "by Close": false} {
		t.Run(name, func(t *testing.T) {
			h, o := &hearer{}, Options{Name: "b", Low: 2, Max: 2}
			a := newPool(t, &numbers{step: 1}, Options{Name: "a", Low: 2, Max: 2})
			if hears {
				o.OnReport = h.hear
			}
			b := newPool(t, &numbers{step: 1}, o)
			e := firstGet(a)
			put(t, b, waitHere(b))
			put(t, a, e)
			e = firstGet(b)
			put(t, a, waitHere(a))
			put(t, b, e)
			err := errors.Join(a.Close(t.Context()), b.Close(t.Context()))
			if hears {
				h.one(t, PoolCycle, "firstGet", "waitHere", "firstGet", "waitHere")
			}
			if errors.Is(err, ErrReported) == hears {
				t.Errorf("Close: %v", err)
			}
		})
	}
}

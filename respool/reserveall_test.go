package respool

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

type letters struct{}

func (letters) Alloc(context.Context) (string, error) { return "a", nil }
func (letters) Free(string) error                     { return nil }

func TestReserveAllIsAllOrNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, dry(4))
		q, err := New(t.Context(), letters{}, dry(2))
		if err != nil {
			t.Fatal(err)
		}
		a := reserve(t, p, 0)
		b, _ := q.Reserve(1)
		beforeP, beforeQ := p.Stats(), q.Stats()
		for _, c := range []struct {
			parts []Part
			want  error
		}{
			{[]Part{a.Need(4), b.Need(2)}, ErrEmpty},
			{[]Part{b.Need(1), a.Need(5)}, ErrReserve},
			{[]Part{a.Need(2), b.Need(1), b.Need(1)}, ErrEmpty}, // each would do
		} {
			if err := ReserveAll(c.parts...); !errors.Is(err, c.want) || a.Len() != 0 || b.Len() != 1 {
				t.Errorf("%v, want %v; has %d and %d", err, c.want, a.Len(), b.Len())
			}
		}
		beforeQ.Empty = 2
		if diff := cmp.Diff([]Stats{beforeP, beforeQ}, []Stats{p.Stats(), q.Stats()}); diff != "" {
			t.Error(diff)
		}
		if err := ReserveAll(b.Need(1), a.Need(4)); err != nil || a.Len() != 4 || b.Len() != 2 {
			t.Errorf("%v; has %d and %d", err, a.Len(), b.Len())
		}
		if err := errors.Join(a.Return(), b.Return()); err != nil {
			t.Error(err)
		}
		if err := q.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if err := ReserveAll(b.Need(1), a.Need(4)); !errors.Is(err, ErrClosed) || a.Len() != 0 || p.Stats().Free != 4 {
			t.Errorf("one is closed: %v", err)
		}
		end(t, p, v)
	})
}

// While a call waits for one pool it holds nothing of the other.
func TestReserveAllWaitHoldsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, w := newVault(t), newVault(t)
		p, q := open(t, v, dry(3)), open(t, w, dry(3))
		fs := get(t, q, 3)
		a, b := reserve(t, p, 0), reserve(t, q, 0)
		done := make(chan error, 1)
		go func() { done <- ReserveAllWait(t.Context(), b.Need(2), a.Need(3)) }()
		for range 100 {
			after(time.Millisecond)
			if s := p.Stats(); s.Free != 3 || s.LowestFree != 3 || s.Waiting != 1 {
				t.Fatalf("%+v", s)
			}
		}
		put(t, q, fs[0])
		after(time.Second)
		es := get(t, p, 0)
		for { // now p is the one that lacks
			e, err := p.Get()
			if err == nil {
				es = append(es, e)
			}
			if len(es) == 2 {
				break
			}
			after(10 * time.Millisecond)
		}
		put(t, q, fs[1])
		after(time.Second)
		if s := q.Stats(); s.Free != 2 || s.Reserved != 0 || len(done) != 0 {
			t.Errorf("%+v", s)
		}
		put(t, p, es...)
		if err := <-done; err != nil || a.Len() != 3 || b.Len() != 2 {
			t.Errorf("%v; has %d and %d", err, a.Len(), b.Len())
		}
		wantReturn(t, a, b)
		put(t, q, fs[2])
		end(t, p, v)
		end(t, q, w)
	})
}

// Everybody wants parts of three pools, that hold enough for one or two at a time, and
// names them in an order of its own; some want one pool only, some give up.
func TestReserveAllWaitCannotDeadlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var vs []*vault
		var ps []*Pool[int]
		for range 3 {
			vs = append(vs, newVault(t))
			ps = append(ps, open(t, vs[len(vs)-1], dry(4)))
		}
		limit, stop := context.WithTimeout(t.Context(), 10*time.Minute) // of the bubble: workers keep its clock running
		defer stop()
		var wg sync.WaitGroup
		for id := range 40 {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(1, uint64(id)))
				rs := []*Reservation[int]{reserveNone(ps[0]), reserveNone(ps[1]), reserveNone(ps[2])}
				for range 50 {
					var parts []Part
					for _, k := range rng.Perm(3)[:1+rng.IntN(3)] {
						parts = append(parts, rs[k].Need(1+rng.IntN(4)))
					}
					ctx, cancel := limit, func() {}
					if rng.IntN(4) == 0 {
						ctx, cancel = context.WithTimeout(ctx, time.Duration(rng.IntN(100))*time.Millisecond)
					}
					err := ReserveAllWait(ctx, parts...)
					cancel()
					if err != nil && !errors.Is(err, context.DeadlineExceeded) {
						t.Error(err)
					}
					if limit.Err() != nil {
						t.Error("deadlock")
						return
					}
					for _, r := range rs {
						if err != nil && r.Len() != 0 {
							t.Errorf("gave up and has %d", r.Len())
						}
					}
					time.Sleep(time.Duration(rng.IntN(5)) * time.Millisecond)
					wantReturn(t, rs...)
				}
			})
		}
		wg.Wait()
		for i, p := range ps {
			if s := p.Stats(); s.Free != 4 || s.Waiting != 0 || p.line.wanted.Load() != 0 {
				t.Errorf("%+v", s)
			}
			end(t, p, vs[i])
		}
	})
}

// A call that one pool will refuse takes nothing of the others in between: not when that pool lacks,
// nor when two parts together want more than it has, nor when it keeps elements for who waits.
func TestReserveAllLooksBeforeItTakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, w := newVault(t), newVault(t)
		p, q := open(t, v, dry(2)), open(t, w, dry(2))
		a, b, b2 := reserveNone(p), reserveNone(q), reserveNone(q)
		refused := func(parts ...Part) {
			t.Helper()
			if err := ReserveAll(parts...); !errors.Is(err, ErrEmpty) {
				t.Errorf("%v", err)
			}
			if n := p.Stats().LowestFree; n != 2 {
				t.Errorf("left %d of p", n)
			}
			if n := q.Stats().LowestFree; n != 1 {
				t.Errorf("left %d of q", n)
			}
		}
		fs := get(t, q, 1)
		refused(a.Need(1), b.Need(2))
		refused(a.Need(1), b.Need(1), b2.Need(1))
		place{&q.line, Ordinary, 1}.bar(true)
		refused(a.Need(1), b.Need(1))
		place{&q.line, Ordinary, 1}.bar(false)
		put(t, q, fs...)
		if s := q.Stats(); s.Empty != 3 {
			t.Errorf("%+v", s)
		}
		end(t, p, v)
		end(t, q, w)
	})
}

// What two parts want of one pool is taken in one step, and shared out: each gets its own.
func TestReserveAllOfOnePool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, dry(8))
		a, b, c := reserve(t, p, 1), reserveNone(p), reserveNone(p)
		if err := ReserveAll(a.Need(1), b.Need(3), c.Need(0), a.Need(2)); err != nil {
			t.Error(err)
		}
		if a.Len() != 4 || b.Len() != 3 || c.Len() != 0 {
			t.Errorf("%d, %d and %d", a.Len(), b.Len(), c.Len())
		}
		seen := map[int]bool{}
		for _, r := range []*Reservation[int]{a, b} {
			for range r.Len() {
				e, err := r.Get()
				if err != nil || seen[e] {
					t.Errorf("%d, %v", e, err)
				}
				seen[e] = true
			}
		}
		if s := p.Stats(); s.InUse != 7 || s.Free != 1 || s.Reserved != 0 {
			t.Errorf("%+v", s)
		}
		for e := range seen {
			put(t, p, e)
		}
		end(t, p, v)
	})
}

// Of several calls that want the same, one succeeds, also where they want two parts of one pool.
func TestReserveAllOneSucceeds(t *testing.T) {
	v, w := newVault(t), newVault(t)
	p, q := open(t, v, dry(4)), open(t, w, dry(4))
	const calls, rounds = 4, 5000
	var rs [calls][3]*Reservation[int]
	for i := range rs {
		rs[i] = [3]*Reservation[int]{reserveNone(p), reserveNone(p), reserveNone(q)}
	}
	for range rounds {
		var wg sync.WaitGroup
		var got atomic.Int64
		start := make(chan struct{})
		for _, r := range rs {
			wg.Go(func() {
				<-start
				if ReserveAll(r[0].Need(2), r[1].Need(2), r[2].Need(3)) == nil {
					got.Add(1)
				}
			})
		}
		close(start)
		wg.Wait()
		if n := got.Load(); n != 1 {
			t.Fatalf("%d of %d calls succeeded", n, calls)
		}
		for _, r := range rs {
			wantReturn(t, r[:]...)
		}
	}
	end(t, p, v)
	end(t, q, w)
}

// A between is a reservation whose pool refuses, after something else has happened.
//
//gommu:maysleep what happens in between is another goroutine's, which the test waits for
type between struct {
	*Reservation[int]
	happens func()
}

func (b between) take(int, uint64) error {
	b.happens()
	return b.p.line.errs.empty
}

// A Close of p that ends between the taking of p and the giving back leaves what was taken in the
// reservation, and no more than that: q's is as before, and another Close gets all.
func TestReserveAllWhileACloseEnds(t *testing.T) {
	for name, all := range map[string]func(...Part) error{
		"ReserveAll":     ReserveAll,
		"ReserveAllWait": func(parts ...Part) error { return ReserveAllWait(context.Background(), parts...) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				vs := []*vault{newVault(t), newVault(t), newVault(t)}
				o := holdAndWait(t, dry(4))
				ps := []*Pool[int]{open(t, vs[0], o), open(t, vs[1], o), open(t, vs[2], o)}
				a, b := reserve(t, ps[0], 1), reserve(t, ps[1], 1)
				closes := func() { wantLeak(t, ps[0].Close(ended()), 3, context.Canceled) }
				c := Part{between{reserveNone(ps[2]), closes}, 1}
				if err := all(c, b.Need(2), a.Need(2)); !errors.Is(err, ErrClosed) {
					t.Errorf("%v", err)
				}
				if a.Len() != 3 || b.Len() != 1 {
					t.Errorf("has %d and %d", a.Len(), b.Len())
				}
				if s := ps[0].Stats(); s.Reserved != 3 || s.Drained != 1 || s.Free != 0 {
					t.Errorf("%+v", s)
				}
				if s := ps[1].Stats(); s.Reserved != 1 || s.Free != 3 {
					t.Errorf("%+v", s)
				}
				e, err := a.Get()
				if err != nil {
					t.Error(err)
				}
				done := make(chan error, 1)
				go func() { done <- ps[0].Close(t.Context()) }()
				synctest.Wait()
				put(t, ps[0], e)
				wantReturn(t, a, b)
				if err := <-done; err != nil {
					t.Error(err)
				}
				for i, p := range ps {
					end(t, p, vs[i])
				}
			})
		})
	}
}

package respool

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestShrinksSlowlyAfterIdleness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, Options{Low: 4, High: 8, Max: 200, Step: 3, IdleAfter: time.Minute})
		var es []int
		for len(es) < 100 {
			es = append(es, get(t, p, 4)...)
			rest()
		}
		put(t, p, es...)
		last := p.Stats().Free
		after(59 * time.Second)
		if s := p.Stats(); s.Shrunk != 0 {
			t.Errorf("freed before IdleAfter: %+v", s)
		}
		var frees []int
		for p.Stats().Free > 8 && len(frees) < 100 {
			after(30 * time.Second)
			if n := p.Stats().Free; n != last {
				frees = append(frees, last-n)
				last = n
			}
		}
		if diff := cmp.Diff([]int{25, 18, 14, 10, 8, 6, 4, 3, 3, 3, 3, 3}, frees); diff != "" {
			t.Error(diff)
		}
		after(time.Hour)
		if s := p.Stats(); s.Free != 8 || s.Shrunk != 100 || v.existing() != 8 {
			t.Errorf("%+v", s)
		}
		end(t, p, v)
	})
}

// The lowest number free in all of IdleAfter counts, not the last one.
func TestShrinksByWhatWasNeverUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, Options{Low: 4, High: 40, Max: 200, Step: 1, IdleAfter: time.Minute, MinAge: time.Minute})
		es := get(t, p, 4)
		rest()
		es = append(es, get(t, p, 40)...)
		rest()
		put(t, p, es...) // 84 are free
		after(10 * time.Second)
		put(t, p, get(t, p, 32)...) // 52 were left, 12 more than High
		after(55 * time.Second)
		if s := p.Stats(); s.Free != 81 || s.Shrunk != 3 {
			t.Errorf("%+v", s)
		}
		end(t, p, v)
	})
}

// A shrink that takes long stops when the load is back.
func TestShrinkStopsAtHigh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, Options{Low: 4, High: 8, Max: 64, Step: 10, IdleAfter: time.Minute})
		es := get(t, p, 4)
		rest()
		es = append(es, get(t, p, 8)...)
		rest()
		put(t, p, es...) // 20 are free
		v.freeDelay.Store(int64(time.Hour))
		after(2 * time.Minute) // the first of ten is being freed
		es = get(t, p, 11)
		after(3 * time.Hour)
		if s := p.Stats(); s.Free != 8 || s.Shrunk != 1 {
			t.Errorf("%+v", s)
		}
		v.freeDelay.Store(0)
		put(t, p, es...)
		end(t, p, v)
	})
}

func TestNeverBelowMin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, Options{Min: 50, Low: 4, High: 8, Max: 200})
		es := get(t, p, 48)
		rest()
		put(t, p, es...)
		if s := p.Stats(); s.Free != 56 {
			t.Errorf("%+v", s)
		}
		after(time.Hour)
		if s := p.Stats(); s.Free != 50 || s.Shrunk != 6 {
			t.Errorf("%+v", s)
		}
		end(t, p, v)
	})
}

// A load that swings faster than IdleAfter costs source calls only while it is new.
func TestDoesNotThrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, Options{Low: 4, High: 8, Max: 200, IdleAfter: time.Second})
		swing := func() {
			var es []int
			for range 20 {
				es = append(es, get(t, p, 3)...)
				after(20 * time.Millisecond)
			}
			put(t, p, es...)
			after(400 * time.Millisecond)
		}
		swing()
		before := p.Stats()
		for range 100 {
			swing()
		}
		s := p.Stats()
		if s.Grown != before.Grown || s.Shrunk != before.Shrunk || s.Empty != 0 {
			t.Errorf("once: %+v\nafter 100 times: %+v", before, s)
		}
		end(t, p, v)
	})
}

// A load that swings with a period below IdleAfter costs the elements that it needs at a time, High above that, and
// no more however long it lasts.
func TestPeriodicLoadDoesNotThrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(struct{ rapid.TB }{t}, func(rt *rapid.T) { // see TestModel
			v := newVault(t)
			num := func(s string, least, most int) int { return rapid.IntRange(least, most).Draw(rt, s) }
			high := num("high", 1, 60)
			p := open(t, v, Options{
				Low: num("low", 1, high), High: high, Max: 200, Step: num("step", 1, 20), IdleAfter: time.Second, MinAge: time.Second,
			})
			rt.Cleanup(func() { _ = p.Close(ended()) }) // a failed check leaves no worker in the bubble
			v.delay = time.Duration(num("delay µs", 0, 2000)) * time.Microsecond
			steps := num("steps", 1, 10)
			n, rise := num("n", 1, 50/steps), time.Duration(num("rise ms", 0, 400/steps))*time.Millisecond
			rest := time.Duration(num("rest ms", 1, 500)) * time.Millisecond
			swing := func() {
				var es []int
				for range steps {
					for range n {
						if e, err := p.Get(); err == nil {
							es = append(es, e)
						}
					}
					after(rise)
				}
				put(t, p, es...)
				after(rest)
			}
			for range 120 {
				swing()
			}
			if s, o := p.Stats(), &p.opts; int(s.Grown) > steps*n+o.High+2*o.Step { // a Step for what failed before the last was seen
				rt.Errorf("for 120 swings of %d: %+v", steps*n, s)
			}
			end(t, p, v)
		})
	})
}

// A register is a source that knows how old elements are when they are freed.
type register struct {
	*vault
	mu       sync.Mutex
	born     map[int]time.Time
	youngest time.Duration
}

func (r *register) Alloc(ctx context.Context) (int, error) {
	e, err := r.vault.Alloc(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.born[e] = time.Now()
	return e, err
}

func (r *register) Free(e int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.youngest = min(r.youngest, time.Since(r.born[e]))
	return r.vault.Free(e)
}

// Under any load nothing is freed before it is as old as MinAge, and after long rest all above Min and High is.
func TestMinAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(struct{ rapid.TB }{t}, func(rt *rapid.T) { // see TestModel
			num := func(s string, least, most int) int { return rapid.IntRange(least, most).Draw(rt, s) }
			r := &register{vault: newVault(t), born: map[int]time.Time{}, youngest: time.Hour}
			o := Options{
				Min: num("min", 0, 20), Low: 2, High: num("high", 2, 10), Max: 100, Step: num("step", 1, 10),
				IdleAfter: 200 * time.Millisecond, MinAge: time.Duration(num("age ms", 100, 3000)) * time.Millisecond,
			}
			p, err := New(context.Background(), r, o)
			if err != nil {
				rt.Fatal(err)
			}
			rt.Cleanup(func() { _ = p.Close(ended()) })
			for range num("rounds", 1, 12) {
				var es []int
				for range num("n", 0, 60) {
					if e, err := p.Get(); err == nil {
						es = append(es, e)
					}
				}
				after(time.Duration(num("out ms", 1, 100)) * time.Millisecond)
				put(t, p, es...)
				after(time.Duration(num("rest ms", 1, 2000)) * time.Millisecond)
			}
			after(time.Minute)
			if s := p.Stats(); s.Free != max(o.High, o.Min) && s.Grown > 0 || s.Shrunk > 0 && r.youngest < o.MinAge {
				rt.Errorf("one was freed at %v: %+v", r.youngest, s)
			}
			end(t, p, r.vault)
		})
	})
}

func TestIdleIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, Options{Min: 20, Low: 4, High: 10, Max: 200, ElemSize: 4096})
		idle := func(want int) {
			t.Helper()
			if s := p.Stats(); s.Idle != want || s.IdleBytes != int64(want)*4096 {
				t.Errorf("%d idle of %d bytes, not %d: %+v", s.Idle, s.IdleBytes, want, s)
			}
		}
		rest()
		idle(20)
		es := get(t, p, 5)
		rest()
		idle(15)
		put(t, p, es...)
		put(t, p, get(t, p, 12)...)
		after(980 * time.Millisecond)
		idle(8) // as long as it was within IdleAfter
		after(1500 * time.Millisecond)
		idle(20)
		end(t, p, v)
	})
}

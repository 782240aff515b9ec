package respool

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
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
		p := open(t, v, Options{Low: 4, High: 40, Max: 200, Step: 1, IdleAfter: time.Minute})
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

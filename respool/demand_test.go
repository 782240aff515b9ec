package respool

import (
	"context"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// ramp takes n elements out, every apart, and says the lowest number that was free.
func ramp(t *testing.T, p *Pool[int], n int, every time.Duration) (es []int, lowest int) {
	t.Helper()
	lowest = math.MaxInt
	for range n {
		time.Sleep(every)
		e, err := p.Get()
		if err != nil {
			lowest = -1
			continue
		}
		es = append(es, e)
		lowest = min(lowest, p.ready.depth())
	}
	return es, lowest
}

// A steady outflow is found whatever the looks are, and does not change once it is.
func TestOutflowOfSteadyLoad(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.IntRange(-50, 50).Draw(t, "elements a look") // so that each look sees whole ones
		every := time.Duration(rapid.IntRange(1, 200).Draw(t, "ms")) * time.Millisecond
		want := float64(rate) / every.Seconds()
		var o outflow
		for range int(20*time.Second/every) + 1 {
			o = o.after(rate, every)
		}
		for k, got := range o {
			if math.Abs(got-want) > math.Abs(want)/1000 {
				t.Fatalf("over %v s: %v, not %v", spans[k], got, want)
			}
		}
		if got := o.during(time.Second); math.Abs(got-max(0, want)) > math.Abs(want)/1000 {
			t.Fatalf("%v during a second, not %v", got, want)
		}
	})
}

// As long as the source is faster than what goes out, the level does not fall below Low, however slow
// the source is for one element.
func TestRampDoesNotTouchLow(t *testing.T) {
	for _, c := range []struct {
		source, every time.Duration
	}{
		{0, time.Millisecond},
		{0, 100 * time.Microsecond},
		{time.Millisecond, 1300 * time.Microsecond},
		{5 * time.Millisecond, 6 * time.Millisecond},
		{20 * time.Millisecond, 25 * time.Millisecond},
		{200 * time.Millisecond, 230 * time.Millisecond},
	} {
		synctest.Test(t, func(t *testing.T) {
			v := newVault(t)
			p := open(t, v, Options{Min: 300, Low: 32, High: 300, Max: 2000, Step: 4})
			v.delay = c.source
			es, lowest := ramp(t, p, 1500, c.every)
			if lowest < 32 {
				t.Errorf("one taken every %v, one made in %v: %d were left, fewer than Low; %+v", c.every, c.source, lowest, p.Stats())
			}
			if s := p.Stats(); s.Free > 300 {
				t.Errorf("one taken every %v, one made in %v: above High: %+v", c.every, c.source, s)
			}
			put(t, p, es...)
			end(t, p, v)
		})
	}
}

// A sluggish source takes long for every nth element and no time for the others, as one does that cuts
// elements from larger pieces.
type sluggish struct {
	*vault
	every, calls int
	delay        time.Duration
}

func (s *sluggish) Alloc(ctx context.Context) (int, error) {
	if s.calls++; s.calls%s.every == 0 {
		time.Sleep(s.delay)
	}
	return s.vault.Alloc(ctx)
}

func TestSluggishSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p, err := New(t.Context(), &sluggish{vault: v, every: 200, delay: 400 * time.Millisecond}, Options{Min: 300, Low: 32, High: 300, Max: 2000})
		if err != nil {
			t.Fatal(err)
		}
		es, lowest := ramp(t, p, 1500, 4*time.Millisecond)
		if lowest < 32 {
			t.Errorf("%d were left, fewer than Low: %+v", lowest, p.Stats())
		}
		put(t, p, es...)
		end(t, p, v)
	})
}

// When more goes out than the source can give, the worker does not wait until Low is near: what it makes meanwhile
// is what is missing in the end.
func TestOutpacedGrowsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		v.delay = 10 * time.Millisecond // 100 a second
		p := open(t, v, Options{Min: 400, Low: 10, High: 400, Max: 4000})
		es, lowest := ramp(t, p, 600, 5*time.Millisecond) // 200 a second for 3 s: 600, and some 300 were made
		if lowest < 50 {
			t.Errorf("%d were left: %+v", lowest, p.Stats())
		}
		put(t, p, es...)
		end(t, p, v)
	})
}

// Bursts of which each is much for the time between two looks, and between which nothing happens, show
// in no mean rate.
func TestBurstsDoNotTouchLow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, Options{Min: 60, Low: 10, High: 60, Max: 2000, Step: 4})
		var es []int
		lowest := math.MaxInt
		for range 30 {
			for _, n := range []int{25, 1, 1, 1, 1} {
				after(50 * time.Millisecond)
				es = append(es, get(t, p, n)...)
				lowest = min(lowest, p.Stats().Free)
			}
		}
		if lowest < 10 {
			t.Errorf("%d were left, fewer than Low: %+v", lowest, p.Stats())
		}
		put(t, p, es...)
		end(t, p, v)
	})
}

package respool

import (
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// What has left by the time when the pool is dry is what was free and what could be added; before that, less.
func TestDryAfter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		num := func(s string, least, most int) float64 { return float64(rapid.IntRange(least, most).Draw(t, s)) }
		free, room, supply := num("free", 0, 1e6), num("room", 0, 1e6), num("supply", 0, 1e9)
		rate := num("rate", -1e6, 1e6)
		dry := dryAfter(free, room, rate, supply)
		left := func(at float64) float64 { return free + min(supply*at, room) - rate*at }
		switch {
		case free == 0:
			if dry != 0 {
				t.Fatalf("nothing is free and it is dry after %v", dry)
			}
		case rate <= 0:
			if !math.IsInf(dry, 1) {
				t.Fatalf("nothing leaves and it is dry after %v", dry)
			}
		case math.Abs(left(dry)) > (free+room)/1e6 || left(dry/2) < -(free+room)/1e6:
			t.Fatalf("dry after %v: %v left then, %v at half the time", dry, left(dry), left(dry/2))
		}
	})
}

// Demand outpaces the source: the forecast says so long before the first failure, tells when that will be, and
// ends with the demand.
func TestForecastWarnsWhenOutpaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		v.delay = 10 * time.Millisecond
		p := open(t, v, Options{Min: 400, Low: 100, High: 400, Max: 4000})
		rest()
		if f := p.Forecast(); f.Dry || f.Outflow != 0 || f.Free != 400 || f.Supply < 99 || f.Supply > 101 {
			t.Errorf("at rest: %+v", f)
		}
		var es []int
		var warned []Forecast
		var when []time.Time
		for {
			time.Sleep(2500 * time.Microsecond) // 400 a second, of 100 that the source gives
			if f := p.Forecast(); f.Dry {
				warned, when = append(warned, f), append(when, time.Now())
			}
			e, err := p.Get()
			if errors.Is(err, ErrEmpty) {
				break
			}
			es = append(es, e)
		}
		dry := time.Now()
		if len(when) == 0 || dry.Sub(when[0]) < time.Second {
			t.Fatalf("no warning a second before: %+v", warned)
		}
		for i, f := range warned {
			left := dry.Sub(when[i])
			if left > 700*time.Millisecond || left < 50*time.Millisecond { // at first the rate has to be learnt
				continue
			}
			if f.DryIn < left*7/10 || f.DryIn > left*13/10 || f.Outflow < 350 || f.Outflow > 450 || f.Supply < 80 || f.Supply > 120 {
				t.Errorf("%v before: %+v", left, f)
			}
		}
		put(t, p, es...)
		after(20 * time.Second)
		if f := p.Forecast(); f.Dry || f.Free < 400 || f.Supply < 99 || f.Supply > 101 || f.Latency.Round(time.Millisecond) != 10*time.Millisecond {
			t.Errorf("after recovery: %+v", f)
		}
		end(t, p, v)
	})
}

// However fast the demand and however large the pool, the warning comes while most of what a second takes, or
// of what there is, is left.
func TestForecastWarnsInTime(t *testing.T) {
	for _, every := range []time.Duration{time.Millisecond, 2500 * time.Microsecond, 8 * time.Millisecond} {
		for _, free := range []int{32, 128, 512} {
			synctest.Test(t, func(t *testing.T) {
				v := newVault(t)
				v.delay = 10 * time.Millisecond
				p := open(t, v, Options{Min: free, Low: free / 2, High: free, Max: 8 * free})
				var es []int
				left := -1
				for {
					time.Sleep(every)
					if f := p.Forecast(); left < 0 && f.Dry && f.DryIn < time.Second {
						left = f.Free
						if f.Outflow <= f.Supply {
							t.Errorf("not for want of supply: %+v", f)
						}
					}
					e, err := p.Get()
					if err != nil {
						break
					}
					es = append(es, e)
				}
				if second := int(time.Second/every) - 100; left < min(free, second)/2 {
					t.Errorf("one taken every %v: warned when %d of %d were left", every, left, free)
				}
				put(t, p, es...)
				end(t, p, v)
			})
		}
	}
}

// The source is quick, but nothing comes back, so Max is what will be missing.
func TestForecastKnowsMax(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, Options{Low: 50, High: 100, Max: 1000})
		es, _ := ramp(t, p, 500, time.Millisecond)
		f := p.Forecast()
		if left := 500 * time.Millisecond; !f.Dry || f.DryIn < left*7/10 || f.DryIn > left*13/10 {
			t.Errorf("500 are left and 1000 a second leave: %+v", f)
		}
		if f.Supply < 1e6 {
			t.Errorf("the source takes no time: %+v", f)
		}
		put(t, p, es...)
		end(t, p, v)
	})
}

// A source that fails, or does not return, gives nothing; the forecast does not wait for the worker to tell.
func TestForecastWithoutSource(t *testing.T) {
	for name, lame := range map[string]func(v *vault) (heal func()){
		"fails":   func(v *vault) func() { v.setFail(always); return func() { v.setFail(nil) } },
		"is slow": func(v *vault) func() { v.delay = time.Hour; return func() {} },
	} {
		synctest.Test(t, func(t *testing.T) {
			v := newVault(t)
			p := open(t, v, Options{Min: 300, Low: 200, High: 300, Max: 4000})
			heal := lame(v)
			es, _ := ramp(t, p, 250, 10*time.Millisecond)
			f := p.Forecast()
			if left := 500 * time.Millisecond; !f.Dry || f.DryIn < left*7/10 || f.DryIn > left*13/10 || f.Supply > 20 {
				t.Errorf("the source %s, 100 a second leave: %+v", name, f)
			}
			heal()
			put(t, p, es...)
			end(t, p, v)
		})
	}
}

// While the worker is kept by the source it sees nothing, but the forecast does: a load that ends, and one that goes on.
func TestForecastWithoutWorker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, Options{Min: 400, Low: 300, High: 400, Max: 4000})
		v.delay = time.Hour
		es := get(t, p, 110)
		after(time.Millisecond) // the worker is inside the source
		more, _ := ramp(t, p, 190, 10*time.Millisecond)
		es = append(es, more...)
		f := p.Forecast()
		if left := time.Second; !f.Dry || f.DryIn < left*5/10 || f.DryIn > left*13/10 { // the 110 still weigh
			t.Errorf("100 are left and 100 a second leave: %+v", f)
		}
		after(time.Minute)
		if f := p.Forecast(); f.Dry && f.DryIn < 10*time.Second {
			t.Errorf("a minute after the load: %+v", f)
		}
		put(t, p, es...)
		end(t, p, v)
	})
}

// A source that was quick once is soon known to be slow.
func TestForecastOfSourceThatSlowsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, Options{Min: 300, Low: 100, High: 300})
		rest()
		v.delay = 20 * time.Millisecond
		es := get(t, p, 201)
		after(4 * time.Second)
		if f := p.Forecast(); f.Supply < 40 || f.Supply > 70 {
			t.Errorf("the source gives 50 a second: %+v", f)
		}
		put(t, p, es...)
		end(t, p, v)
	})
}

func TestForecastOfNothing(t *testing.T) {
	v := newVault(t)
	p := open(t, v, Options{Max: None})
	if f := p.Forecast(); !f.Dry || f.DryIn != 0 || f.Free != 0 {
		t.Errorf("%+v", f)
	}
	end(t, p, v)
}

func TestForecastAllocatesNothing(t *testing.T) {
	v := newVault(t)
	p := open(t, v, Options{})
	if n := testing.AllocsPerRun(1000, func() { p.Forecast() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	end(t, p, v)
}

// Forecast may be called while everything else goes on; the race detector watches.
func TestForecastUnderLoad(t *testing.T) {
	v := newVault(t)
	p := open(t, v, Options{Low: 4, High: 64, Max: 256})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 2000 {
			var es []int
			for range 40 {
				if e, err := p.Get(); err == nil {
					es = append(es, e)
				}
			}
			for _, e := range es {
				if err := p.Put(e); err != nil {
					t.Error(err)
				}
			}
		}
	}()
	for open := true; open; {
		select {
		case <-done:
			open = false
		default:
		}
		if f := p.Forecast(); f.DryIn < 0 || f.Dry && f.DryIn > time.Hour || f.Supply < 0 || math.IsNaN(f.Outflow) || math.IsInf(f.Outflow, 0) {
			t.Fatalf("%+v", f)
		}
	}
	end(t, p, v)
}

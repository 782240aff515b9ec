package respool

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// rest lets the worker look a few times, with nothing going on.
func rest() { after(50 * time.Millisecond) }

// after lets d of the bubble's time pass and the worker finish what is due.
func after(d time.Duration) { time.Sleep(d); synctest.Wait() }

func TestGrowsBelowLow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, Options{Low: 4, High: 9, Max: 64, Step: 2})
		rest()
		if s := p.Stats(); s.Free != 4 || s.Grown != 0 {
			t.Errorf("at rest at Low: %+v", s)
		}
		es := get(t, p, 1)
		rest()
		if s := p.Stats(); s.Free != 9 || s.Grown != 6 {
			t.Errorf("after falling below Low: %+v", s)
		}
		put(t, p, es...)
		end(t, p, v)
	})
}

// Nine went out since the last look: if nine more go out until the next, two are left.
func TestGrowsAheadOfDemand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, Options{Min: 20, Low: 4, High: 20, Max: 64})
		rest()
		es := get(t, p, 7)
		rest()
		if s := p.Stats(); s.Free != 13 || s.Grown != 0 {
			t.Errorf("six would be left, more than Low: %+v", s)
		}
		put(t, p, es...)
		rest()
		es = get(t, p, 9)
		rest()
		if s := p.Stats(); s.Free != 20 || s.Grown != 9 {
			t.Errorf("two would be left: %+v", s)
		}
		put(t, p, es...)
		end(t, p, v)
	})
}

func TestNeverBeyondMax(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, Options{Low: 4, High: 8, Max: 10})
		for range 5 { // what was freed in between can be made again
			var es []int
			for range 100 {
				for {
					e, err := p.Get()
					if err != nil {
						break
					}
					es = append(es, e)
				}
				after(time.Millisecond)
			}
			if s := p.Stats(); s.InUse != 10 || s.Free != 0 || s.SourceErrors != 0 || v.existing() != 10 {
				t.Errorf("%+v", s)
			}
			put(t, p, es...)
			after(time.Minute)
			if s := p.Stats(); s.Free != 8 {
				t.Errorf("at rest: %+v", s)
			}
		}
		end(t, p, v)
	})
}

// What goes out and comes back between two looks was needed all the same.
func TestSeesDipsBetweenLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, Options{Low: 4, High: 8, Max: 64})
		rest()
		put(t, p, get(t, p, 1)...)
		rest()
		if s := p.Stats(); s.Free != 8 || s.Grown != 4 {
			t.Errorf("three were left, less than Low: %+v", s)
		}
		es := get(t, p, 8)
		rest()
		put(t, p, es...)
		for range 1000 {
			put(t, p, get(t, p, 12)...)
			after(20 * time.Millisecond)
		}
		if s := p.Stats(); s.Free != 16 || s.Shrunk != 0 {
			t.Errorf("only four were never used: %+v", s)
		}
		end(t, p, v)
	})
}

// A burst that comes and goes between two looks shows only in the gets that failed.
func TestGrowsForBurstsLargerThanHigh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, Options{Low: 2, High: 4, Max: 64, Step: 1})
		const burst = 12
		failed := 0
		for range 100 {
			var es []int
			for range burst {
				if e, err := p.Get(); err == nil {
					es = append(es, e)
				} else {
					failed++
				}
			}
			put(t, p, es...)
			after(20 * time.Millisecond)
		}
		if s := p.Stats(); s.Free != burst || s.Empty != uint64(failed) {
			t.Errorf("after 100 bursts of %d, of which %d gets failed: %+v", burst, failed, s)
		}
		end(t, p, v)
	})
}

func TestBacksOffAndRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, Options{Low: 4, High: 8, Max: 64})
		v.setFail(always)
		before := v.allocCalls()
		es := get(t, p, 4)
		after(time.Second)
		// 0, 10, 30, 70, 150, 310 and 630 ms after the first look
		if s := p.Stats(); s.SourceErrors != 7 || v.allocCalls()-before != 7 || !errors.Is(s.LastError, errVault) {
			t.Errorf("in the first second: %d calls, %+v", v.allocCalls()-before, s)
		}
		after(100 * time.Second)
		if n := v.allocCalls() - before - 7; n < 98 || n > 101 {
			t.Errorf("%d calls in 100 s, not one a second", n)
		}
		v.setFail(nil)
		after(1100 * time.Millisecond)
		if s := p.Stats(); s.Free != 8 || s.LastError != nil {
			t.Errorf("after recovery: %+v", s)
		}
		errs := p.Stats().SourceErrors
		v.setFail(always)
		es = append(es, get(t, p, 8)...)
		after(100 * time.Millisecond)
		if n := p.Stats().SourceErrors - errs; n != 4 {
			t.Errorf("%d calls in 100 ms: the backoff did not start anew", n)
		}
		v.setFail(nil)
		put(t, p, es...)
		end(t, p, v)
	})
}

func TestFailedFreeIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, Options{Low: 4, High: 8, Max: 64})
		es := get(t, p, 4)
		rest()
		put(t, p, es...)
		v.setFail(always)
		after(time.Minute)
		if s := p.Stats(); s.Free != 8 || s.Shrunk != 4 || s.FreeErrors != 4 {
			t.Errorf("%+v", s)
		}
		err := p.Close(t.Context())
		if s := p.Stats(); !errors.Is(err, ErrFree) || !errors.Is(err, errVault) || s.FreeErrors != 12 {
			t.Errorf("Close: %v; %+v", err, s)
		}
		if err := p.Close(t.Context()); err != nil {
			t.Errorf("again: %v", err)
		}
	})
}

// A pool that answered ErrEmpty was down to nothing, even if no Get succeeded since the
// last look.
func TestLookSeesEmpty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, Options{Low: 4, High: 8, Max: 64})
		w := newWorker(p)
		es := get(t, p, 4)
		w.look(time.Now())
		if _, err := p.Get(); err == nil {
			t.Fatal("it is not empty")
		}
		put(t, p, es...)
		if s := w.look(time.Now()); s.low != 0 || !s.empty || w.missing(s) != 4 {
			t.Errorf("%+v, missing %d", s, w.missing(s))
		}
		end(t, p, v)
	})
}

// What comes back while the worker grows the pool need not be made: it looks after each Step,
// and with a slow source after each MaxInterval.
func TestGrowthStopsAtHigh(t *testing.T) {
	for _, c := range []struct {
		delay, out time.Duration
		want       uint64
	}{
		{2 * time.Millisecond, 3 * time.Millisecond, 5},   // the worker makes the second of 40: one Step
		{20 * time.Millisecond, 50 * time.Millisecond, 3}, // the third
	} {
		synctest.Test(t, func(t *testing.T) {
			v := newVault(t)
			p := open(t, v, Options{Low: 40, High: 40, Max: 200, Step: 5})
			v.delay = c.delay
			es := get(t, p, 40)
			after(c.out)
			put(t, p, es...)
			after(2 * time.Second)
			if s := p.Stats(); s.Grown != c.want {
				t.Errorf("all are back and it did not make %d: %+v", c.want, s)
			}
			end(t, p, v)
		})
	}
}

// A slow source delays nobody but the worker.
func TestSlowSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault(t)
		p := open(t, v, Options{Low: 4, High: 8, Max: 64})
		v.delay = time.Second
		es := get(t, p, 4)
		begin := time.Now()
		for i := range 8 {
			for {
				e, err := p.Get()
				if err == nil {
					es = append(es, e)
					break
				}
				after(time.Millisecond)
			}
			if d := time.Since(begin); d < time.Duration(i+1)*time.Second || d > time.Duration(i+1)*time.Second+20*time.Millisecond {
				t.Errorf("element %d after %v", i+1, d)
			}
		}
		put(t, p, es...)
		end(t, p, v)
	})
}

// Whichever call of the source fails, nothing is lost, and the pool comes back.
func TestFailNth(t *testing.T) {
	run := func(t *testing.T, n int) (calls int) {
		synctest.Test(t, func(t *testing.T) {
			v := newVault(t)
			p := open(t, v, Options{Low: 3, High: 6, Max: 20, IdleAfter: 100 * time.Millisecond})
			first := v.calls
			v.setFail(func(call int) error {
				if call == first+n {
					return errVault
				}
				return nil
			})
			var es []int
			for range 4 {
				es = append(es, get(t, p, 3)...)
				after(100 * time.Millisecond)
				if s := p.Stats(); s.Free < 3 {
					t.Errorf("it did not grow again: %+v", s)
				}
			}
			put(t, p, es...)
			after(time.Minute)
			checkSum(t, p)
			if s := p.Stats(); s.Free != 6 || v.existing() != 6 {
				t.Errorf("%d exist, %+v", v.existing(), s)
			}
			err := p.Close(t.Context())
			s := p.Stats()
			if v.existing() != 0 || int(s.FreeErrors) != v.lost {
				t.Errorf("%d exist, %+v", v.existing(), s)
			}
			if n > 0 && n <= v.calls-first && s.SourceErrors+s.FreeErrors != 1 {
				t.Errorf("call %d failed but was not counted: %+v", n, s)
			}
			if errors.Is(err, ErrFree) != (n > v.calls-first-6 && n > 0 && n <= v.calls-first) {
				t.Errorf("Close: %v", err)
			}
			calls = v.calls - first
		})
		return calls
	}
	calls := run(t, 0)
	if calls < 24 {
		t.Fatalf("only %d calls of the source: the scenario shows little", calls)
	}
	for n := 1; n <= calls; n++ {
		run(t, n)
	}
}

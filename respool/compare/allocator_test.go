package compare

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"
)

// The draws are from the normal distribution, and a cost has the quantiles that it says.
func TestCost(t *testing.T) {
	c := Cost{time.Microsecond, 10 * time.Microsecond, 50 * time.Microsecond}
	const n = 100_000
	var sum, squares float64
	below := map[time.Duration]int{}
	for i := range uint64(n) {
		z := normal(7, i)
		sum += z
		squares += z * z
		d := c.at(z)
		for _, limit := range []time.Duration{c.Median, c.P99, c.Max} {
			if d <= limit {
				below[limit]++
			}
		}
	}
	if mean, sd := sum/n, math.Sqrt(squares/n); math.Abs(mean) > 0.01 || math.Abs(sd-1) > 0.01 {
		t.Errorf("mean %.3f, standard deviation %.3f; want 0 and 1", mean, sd)
	}
	for limit, share := range map[time.Duration]float64{c.Median: 0.5, c.P99: 0.99, c.Max: 1} {
		if got := float64(below[limit]) / n; math.Abs(got-share) > 0.005 {
			t.Errorf("%.3f of the times are up to %v, want %.2f", got, limit, share)
		}
	}
}

// Under pressure, and only then, the allocator refuses without reclaim.
func TestPressure(t *testing.T) {
	src := &simulated{Allocator: quick}
	src.Pressure = []Span{{time.Hour, 2 * time.Hour}}
	src.Reclaim = Cost{time.Hour, 2 * time.Hour, 3 * time.Hour}
	for _, c := range []struct {
		ago    time.Duration // the start of the trace; 0: it has not begun
		refuse bool
	}{{0, false}, {time.Minute, false}, {90 * time.Minute, true}, {3 * time.Hour, false}} {
		if c.ago > 0 {
			start := time.Now().Add(-c.ago)
			src.start.Store(&start)
		}
		if _, err := src.TryAlloc(); (err != nil) != c.refuse {
			t.Errorf("%v after the start: %v", c.ago, err)
		}
		if !c.refuse {
			continue
		}
		ctx, cancel := context.WithCancel(context.Background()) // reclaim takes an hour
		time.AfterFunc(time.Millisecond, cancel)
		if _, err := src.Alloc(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("reclaim: %v", err)
		}
	}
	if got, want := src.others.calls(), (Calls{Try: 4, Refused: 1, Alloc: 1}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if src.live.Load() != 3 || src.peak.Load() != 3 {
		t.Errorf("%d live, %d at most, want 3", src.live.Load(), src.peak.Load())
	}
}

// through is a user that calls the allocator in all ways, by itself and by another goroutine.
type through struct{ src *simulated }

func (u through) Get() (element, error) { return u.src.TryAlloc() }

func (u through) GetWait(ctx context.Context) (element, error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		if e, err := u.src.Alloc(ctx); err == nil {
			_ = u.src.Free(e) // Free never fails
		}
	}()
	<-done
	return u.src.Alloc(ctx)
}

func (u through) Put(e element) error { return u.src.Free(e) }

// Calls of the allocator are told apart by who makes them.
func TestCallersPath(t *testing.T) {
	src := &simulated{Allocator: quick}
	task := newTask([]Event{{Call: Get}, {Call: GetWait}, {Call: Put, Of: 0}, {Call: Put, Of: 1}}, through{src}, time.Minute)
	task.start = time.Now()
	task.run(t.Context())
	if task.err != nil {
		t.Fatal(task.err)
	}
	if got, want := src.caller.calls(), (Calls{Try: 1, Alloc: 1, Free: 2}); got != want {
		t.Errorf("on the task's path %+v, want %+v", got, want)
	}
	if got, want := src.others.calls(), (Calls{Alloc: 1, Free: 1}); got != want {
		t.Errorf("by others %+v, want %+v", got, want)
	}
}

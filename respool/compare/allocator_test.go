package compare

import (
	"context"
	"errors"
	"math"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gommu/respool/discipline"
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

// A witness is a backing that looks who calls it.
type witness struct {
	discipline.Backing[element]
	byTasks, byOthers atomic.Int64
}

func (w *witness) TryAlloc() (element, error) { w.look(); return w.Backing.TryAlloc() }

func (w *witness) Alloc(ctx context.Context) (element, error) {
	w.look()
	return w.Backing.Alloc(ctx)
}

func (w *witness) Free(e element) error { w.look(); return w.Backing.Free(e) }

// look finds whether a task's call is on this goroutine's stack.
func (w *witness) look() {
	var pcs [64]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	for more := true; more; {
		var f runtime.Frame
		if f, more = frames.Next(); strings.HasSuffix(f.Function, "compare.(*task).run") {
			w.byTasks.Add(1)
			return
		}
	}
	w.byOthers.Add(1)
}

// The calls of the allocator are counted for those who make them.
func TestCallersPath(t *testing.T) {
	for _, name := range Names() {
		tr, err := NewTrace(TraceOptions{Name: name, Seed: 4, Tasks: 3, Length: 60 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range contenders(tr, 8) {
			w, create := &witness{}, c.create
			c.create = func(ctx context.Context, src discipline.Backing[element]) (discipline.Discipline[element], error) {
				w.Backing = src
				return create(ctx, w)
			}
			r, err := c.run(t.Context(), tr, Options{Patience: time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			if got, want := w.byTasks.Load(), int64(r.Callers.Try+r.Callers.Alloc+r.Callers.Free); got != want || (got > 0) != c.byTasks {
				t.Errorf("%s, %s: %d calls by tasks, %d counted", name, c.name, got, want)
			}
			// Close frees what there is, which is not counted.
			if got, want := w.byOthers.Load(), int64(r.Beforehand+r.Others.Try+r.Others.Alloc+r.Others.Free); got < want {
				t.Errorf("%s, %s: %d calls by others, %d counted", name, c.name, got, want)
			}
		}
	}
}

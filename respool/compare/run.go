package compare

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"gommu/respool/discipline"
)

// ErrBadOptions is the error of options that cannot work.
var ErrBadOptions = errors.New("bad options")

// Options configure Run. The zero value works.
type Options struct {
	// Ready is how many elements each discipline keeps ready at rest, but for static. Default 64.
	Ready int

	// Patience is how long a caller of GetWait waits before that is a failure. Default 100 ms.
	Patience time.Duration
}

// sampling is the time between two looks at the memory held.
const sampling = time.Millisecond

// Run runs the trace through all disciplines, one after the other.
func Run(ctx context.Context, t *Trace, o Options) ([]Result, error) {
	if o.Ready < 0 || o.Ready > 1<<20 {
		return nil, fmt.Errorf("%w: %d elements ready: take 1 to %d", ErrBadOptions, o.Ready, 1<<20)
	}
	if o.Patience < 0 {
		return nil, fmt.Errorf("%w: a patience of %v: take a positive time", ErrBadOptions, o.Patience)
	}
	if o.Ready == 0 {
		o.Ready = 64
	}
	if o.Patience == 0 {
		o.Patience = 100 * time.Millisecond
	}
	var results []Result
	for _, c := range contenders(t, o.Ready) {
		runtime.GC() // what the one before has left
		r, err := c.run(ctx, t, o)
		if err != nil {
			return results, fmt.Errorf("%s: %w", c.name, err)
		}
		results = append(results, r)
	}
	return results, nil
}

// run runs the trace through one discipline.
func (c contender) run(ctx context.Context, t *Trace, o Options) (Result, error) {
	src := &simulated{Allocator: t.Allocator, seed: t.Seed, byTasks: c.byTasks}
	r := Result{Name: c.name, Setup: c.set}
	d, err := c.create(ctx, src)
	if err != nil {
		return r, err
	}
	r.Beforehand = src.others.calls().Alloc
	tasks := make([]*task, len(t.Tasks))
	for i, events := range t.Tasks {
		tasks[i] = newTask(events, userOf(d, i), o.Patience)
	}
	r.Samples = runTasks(ctx, src, tasks)
	r.Elapsed = time.Since(tasks[0].start)
	r.Callers = src.caller.calls()
	r.Others = src.others.calls()
	r.Others.Alloc -= r.Beforehand
	r.Peak, r.End = int(src.peak.Load()), int(src.live.Load())
	r.Mean = mean(r.Samples)
	err = gather(&r, tasks)
	if cerr := end(d); err == nil {
		err = cerr
	}
	if left := src.live.Load(); err == nil && left != 0 {
		err = fmt.Errorf("%d elements were never freed", left)
	}
	if err == nil {
		err = ctx.Err()
	}
	return r, err
}

// end closes d. All is put back, so that takes as long as the frees.
func end(d discipline.Discipline[element]) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return d.Close(ctx)
}

// runTasks runs the tasks, and samples how many elements exist until all are done.
func runTasks(ctx context.Context, src *simulated, tasks []*task) []Sample {
	samples := []Sample{{0, int(src.live.Load())}}
	start := time.Now()
	src.start.Store(&start)
	var wg sync.WaitGroup
	for _, t := range tasks {
		t.start = start
		wg.Go(func() { t.run(ctx) })
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()

	ticker := time.NewTicker(sampling)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			samples = append(samples, Sample{time.Since(start), int(src.live.Load())})
		case <-done:
			return append(samples, Sample{time.Since(start), int(src.live.Load())})
		}
	}
}

// gather adds up what the tasks found.
func gather(r *Result, tasks []*task) error {
	var latency [3]*hdrhistogram.Histogram
	for i := range latency {
		latency[i] = hdrhistogram.New(1, longestLatency, 2)
	}
	var err error
	for _, t := range tasks {
		for i := range latency {
			latency[i].Merge(t.latency[i])
		}
		r.Failures = append(r.Failures, t.failures...)
		r.Behind = max(r.Behind, t.behind)
		if err == nil {
			err = t.err
		}
	}
	slices.SortFunc(r.Failures, func(a, b Failure) int { return int(a.At - b.At) })
	r.Get, r.GetWait, r.Put = latencyOf(latency[Get]), latencyOf(latency[GetWait]), latencyOf(latency[Put])
	return err
}

// mean is the mean of samples over time.
func mean(samples []Sample) float64 {
	sum, last := 0., samples[len(samples)-1].At
	for i, s := range samples[1:] {
		sum += float64(samples[i].Elements) * float64(s.At-samples[i].At)
	}
	if last == 0 {
		return float64(samples[0].Elements)
	}
	return sum / float64(last)
}

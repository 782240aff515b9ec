package compare

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"gommu/respool"
)

// A task makes the calls of one list of events.
type task struct {
	events   []Event
	user     user
	start    time.Time
	patience time.Duration

	got      []element // by event: what a get returned, 0 for nothing
	latency  [3]*hdrhistogram.Histogram
	failures []Failure
	behind   time.Duration // the most that an event was late
	err      error         // what should not happen
}

// longestLatency is the largest that the histograms hold; they keep two digits.
const longestLatency = int64(time.Minute)

func newTask(events []Event, u user, patience time.Duration) *task {
	t := &task{events: events, user: u, patience: patience, got: make([]element, len(events))}
	for i := range t.latency {
		t.latency[i] = hdrhistogram.New(1, longestLatency, 2)
	}
	return t
}

// run makes all calls. When ctx ends, or something fails that should not, it only puts back.
func (t *task) run(ctx context.Context) {
	for i, e := range t.events {
		t.sleepUntil(ctx, e.At)
		if (ctx.Err() != nil || t.err != nil) && e.Call != Put {
			continue
		}
		if e.Call == Put && t.got[e.Of] == 0 {
			continue
		}
		t.make(ctx, i, e)
	}
}

// make makes call i, which is e, and takes its time.
func (t *task) make(ctx context.Context, i int, e Event) {
	if e.Call == GetWait {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, t.patience)
		defer cancel()
	}
	begin := time.Now()
	err := t.call(ctx, i, e)
	t.latency[e.Call].RecordValue(max(1, min(int64(time.Since(begin)), longestLatency)))
	t.behind = max(t.behind, begin.Sub(t.start)-e.At)
	switch {
	case err == nil:
	case e.Call == Get && errors.Is(err, respool.ErrEmpty), e.Call == GetWait && ctx.Err() != nil:
		t.failures = append(t.failures, Failure{At: time.Since(t.start), MaySleep: e.Call == GetWait})
	default:
		t.err = fmt.Errorf("event %d of a task: %w", i, err)
	}
}

// call makes the call itself.
func (t *task) call(ctx context.Context, i int, e Event) (err error) {
	switch e.Call {
	case Get:
		t.got[i], err = t.user.Get()
	case GetWait:
		t.got[i], err = t.user.GetWait(ctx)
	default:
		err = t.user.Put(t.got[e.Of])
	}
	return err
}

// sleepUntil returns at a time of the trace, or when ctx ends.
func (t *task) sleepUntil(ctx context.Context, at time.Duration) {
	wait := at - time.Since(t.start)
	if wait <= 0 {
		return
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

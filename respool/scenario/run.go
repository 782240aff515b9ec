package scenario

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// A run is one play of a way.
type run struct {
	o      Options
	ctx    context.Context // ends with the limit, and to release tasks that are deadlocked
	cancel context.CancelFunc

	wg      sync.WaitGroup
	suspect chan uint64 // the number of moves at which nobody could get on

	mu         sync.Mutex
	tasks      []*task
	complete   bool   // no more tasks will be started
	moves      uint64 // whenever a task did something
	figures    []string
	closers    []func(context.Context) error
	deadlocked bool
	progress   []Progress // as it was when the deadlock was shown
	err        error      // the first of the tasks
	lost       error      // what was not as before when all was over
}

// perform plays a way and returns when all that belongs to it has ended.
func perform(ctx context.Context, o Options, play func(*run) error) *run {
	r := &run{o: o, suspect: make(chan uint64, 1)}
	r.ctx, r.cancel = context.WithTimeout(ctx, o.Limit)
	defer r.cancel()
	if err := play(r); err != nil {
		r.fail(err)
		r.cancel()
	}
	r.wait()
	r.close()
	return r
}

// wait lets the tasks go on until all have ended. If they come to a stand it says so and
// releases them. It may be called twice.
func (r *run) wait() {
	r.mu.Lock()
	r.complete = true
	r.check()
	r.mu.Unlock()
	over := make(chan struct{})
	go func() {
		r.wg.Wait()
		close(over)
	}()
	for {
		select {
		case <-over:
			return
		case moves := <-r.suspect:
			r.try(moves, over)
		}
	}
}

// try gives those who cannot get on the time to prove the opposite.
func (r *run) try(moves uint64, over <-chan struct{}) {
	patience := time.NewTimer(r.o.Patience)
	defer patience.Stop()
	select {
	case <-r.ctx.Done():
		return
	case <-over: // shows in moves
	case <-patience.C:
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.cancel()
	if r.moves != moves {
		r.err = errors.Join(r.err, errRevived)
		return
	}
	r.deadlocked = true
	r.progress = r.snapshot()
}

// check looks whether anybody can get on. It is called with the lock held, after each
// change that may leave nobody.
func (r *run) check() {
	if !r.complete || r.ctx.Err() != nil {
		return
	}
	left := false
	for _, t := range r.tasks {
		if t.ended {
			continue
		}
		if t.wants == nil || t.wants.there() {
			return
		}
		left = true
	}
	if !left {
		return
	}
	select {
	case r.suspect <- r.moves:
	default:
	}
}

// fail notes the first error. What follows from the release of deadlocked tasks is none.
func (r *run) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil && r.err == nil && !r.deadlocked {
		r.err = err
	}
}

// figure notes something that was counted.
func (r *run) figure(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.figures = append(r.figures, fmt.Sprintf(format, args...))
}

// later has f called when all tasks have ended, the last first. Its error says that something
// was not given back.
func (r *run) later(f func(context.Context) error) { r.closers = append(r.closers, f) }

func (r *run) close() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), r.o.Limit)
	defer cancel()
	var errs []error
	for i := len(r.closers) - 1; i >= 0; i-- {
		errs = append(errs, r.closers[i](ctx))
	}
	r.lost = errors.Join(errs...)
}

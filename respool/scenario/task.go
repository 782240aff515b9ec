package scenario

import (
	"context"
	"fmt"
)

// A task is one goroutine of a run. Its methods are for that goroutine.
type task struct {
	r    *run
	name string
	of   int
	over *event // when it has ended

	// Under the run's lock.
	steps   int
	wants   want // nil: it runs
	held    []*holding
	ended   bool
	refusal string // why it was not to begin
	err     error
}

// A want is what a task waits for.
type want interface {
	fmt.Stringer
	there() bool // now; called with the run's lock held
}

// A count is a number of like things that tasks hold: elements, or a lock. All tasks that
// hold some have told so, or are still on their way; those count as there, so a count
// errs only towards somebody being able to get on.
type count struct {
	name  string
	total int
	held  int // under the run's lock
}

// some are n things of a count, when leave of them stay for others.
type some struct {
	of       *count
	n, leave int
}

// there is also true for more than there can ever be: nobody waits for that, it is refused.
func (s some) there() bool {
	return s.n+s.leave > s.of.total || s.of.total-s.of.held >= s.n+s.leave
}

func (s some) String() string {
	text := fmt.Sprintf("%d of %s", s.n, s.of.name)
	if s.leave > 0 {
		text += fmt.Sprintf(" above the mark of %d", s.leave)
	}
	return text
}

// A holding is what a task got and how it gives that back.
type holding struct {
	of   *count
	n    int
	back func() error
}

// An event happens once.
type event struct {
	r        *run
	name     string
	happened bool // under the run's lock
	done     chan struct{}
}

func (r *run) event(name string) *event { return &event{r: r, name: name, done: make(chan struct{})} }

func (e *event) there() bool    { return e.happened }
func (e *event) String() string { return e.name }

func (e *event) happen() {
	e.r.mu.Lock()
	defer e.r.mu.Unlock()
	e.happened = true
	e.r.moves++
	close(e.done)
}

// start runs f as a task with that many steps to do. When f returns, what the task still
// holds is given back.
func (r *run) start(name string, of int, f func(*task) error) *task {
	t := &task{r: r, name: name, of: of, over: r.event("the end of " + name)}
	r.mu.Lock()
	r.tasks = append(r.tasks, t)
	r.mu.Unlock()
	r.wg.Go(func() {
		err := f(t)
		for len(t.held) > 0 {
			if lost := t.release(t.held[len(t.held)-1]); lost != nil {
				err = lost
			}
		}
		t.end(err)
	})
	return t
}

func (t *task) end(err error) {
	t.r.fail(err)
	t.over.happen()
	t.r.mu.Lock()
	defer t.r.mu.Unlock()
	t.ended, t.err = true, err
	t.r.check()
}

// step notes that the task got on.
func (t *task) step() {
	t.r.mu.Lock()
	defer t.r.mu.Unlock()
	t.steps++
	t.r.moves++
}

// refused notes that the task was told beforehand that its work cannot be done.
func (t *task) refused(when string, err error) {
	t.r.mu.Lock()
	defer t.r.mu.Unlock()
	t.refusal = fmt.Sprintf("refused %s: %v", when, err)
}

// wait calls f, which waits for w. What f got, if anything, is h.
func (t *task) wait(w want, h *holding, f func(context.Context) error) error {
	t.r.mu.Lock()
	t.wants = w
	t.r.check()
	t.r.mu.Unlock()
	err := f(t.r.ctx)
	t.r.mu.Lock()
	defer t.r.mu.Unlock()
	t.wants = nil
	t.r.moves++
	if err == nil {
		t.hold(h)
		err = t.r.ctx.Err() // one that was released goes no further, whatever it got
	}
	return err
}

// hold is called with the run's lock held.
func (t *task) hold(h *holding) {
	if h != nil {
		h.of.held += h.n
		t.held = append(t.held, h)
	}
}

// await waits for an event.
func (t *task) await(e *event) error {
	return t.wait(e, nil, func(ctx context.Context) error {
		select {
		case <-e.done:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
}

// release gives a holding back.
func (t *task) release(h *holding) error {
	t.drop(h)
	return h.back()
}

// drop notes that the task no longer has h: somebody else may, before it is given back.
func (t *task) drop(h *holding) {
	t.r.mu.Lock()
	defer t.r.mu.Unlock()
	for i := len(t.held) - 1; i >= 0; i-- {
		if t.held[i] == h {
			t.held = append(t.held[:i], t.held[i+1:]...)
			h.of.held -= h.n
			return
		}
	}
}

// adopt notes that the task has h, which another one dropped.
func (t *task) adopt(h *holding) {
	t.r.mu.Lock()
	defer t.r.mu.Unlock()
	t.hold(h)
}

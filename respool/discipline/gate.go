package discipline

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"gommu/respool"
)

// A gate counts the elements that are out and the calls under way, and shuts in two steps: closing
// refuses gets, sealed refuses puts too. All of it is one word, so each step of a call finds one
// state.
type gate struct {
	state  atomic.Uint64
	life   context.Context // ends with closing
	end    context.CancelFunc
	closer chan struct{} // holds a token while a close is at work
	lost   freeFailures  // since the last close
	errs   hotErrors
	label  string // how errors call the discipline
}

// The word of a gate: out in the low bits, calls above, two flags.
const (
	outBits         = 36
	outMask         = 1<<outBits - 1
	oneCall         = 1 << outBits
	callMask uint64 = 1<<62 - oneCall
	closing  uint64 = 1 << 62
	sealed   uint64 = 1 << 63
)

func newGate(label string) *gate {
	g := &gate{closer: make(chan struct{}, 1), errs: newHotErrors(label), label: label}
	g.life, g.end = context.WithCancel(context.Background())
	return g
}

// enter begins a get, unless the gate is closing.
func (g *gate) enter() bool {
	for {
		s := g.state.Load()
		if s&closing != 0 {
			return false
		}
		if g.state.CompareAndSwap(s, s+oneCall) {
			return true
		}
	}
}

// leave ends a call. If it returns true a close has given up on the call, and what the call
// left in the discipline is to be disposed of.
func (g *gate) leave() (late bool) { return g.state.Add(^uint64(oneCall-1))&sealed != 0 }

// leaveWith ends a get that got an element, which is out from now on. If the gate is closing the
// call is still under way: the element is to be disposed of.
func (g *gate) leaveWith() bool {
	for {
		s := g.state.Load()
		if s&closing != 0 {
			return false
		}
		if g.state.CompareAndSwap(s, s-oneCall+1) {
			return true
		}
	}
}

// back begins a put: one element less is out. It is ended by leave.
func (g *gate) back() error {
	for {
		s := g.state.Load()
		switch {
		case s&sealed != 0:
			return g.errs.putClosed
		case s&outMask == 0:
			return g.errs.foreign
		}
		if g.state.CompareAndSwap(s, s-1+oneCall) {
			return nil
		}
	}
}

// out is how many elements are out.
func (g *gate) out() int { return int(g.state.Load() & outMask) }

// close shuts the gate, and calls drain until no element is out and no call under way, or
// ctx ends. Then drain finds nothing that it has left behind. Closes take turns.
func (g *gate) close(ctx context.Context, drain func()) error {
	g.state.Or(closing)
	g.end()
	if !g.awaitTurn(ctx) {
		return g.closeError(ctx, g.out(), fmt.Errorf("another Close is still at work: %w", ctx.Err()))
	}
	defer func() { <-g.closer }()
	g.state.And(^sealed)
	g.await(ctx, drain)
	s := g.state.Or(sealed)
	drain()
	var busy error
	if s&callMask != 0 {
		busy = fmt.Errorf("%w: a call of it is under way: %w", respool.ErrSourceBusy, ctx.Err())
	}
	return g.closeError(ctx, int(s&outMask), busy, g.lost.take())
}

// closeError makes one error of errs and of the elements that are out, nil if there are none.
func (g *gate) closeError(ctx context.Context, out int, errs ...error) error {
	if out > 0 {
		errs = append(errs, fmt.Errorf("%w: %d not put back: %w", respool.ErrLeaked, out, ctx.Err()))
	}
	if err := errors.Join(errs...); err != nil {
		return &OpError{Op: "close", Discipline: g.label, Out: out, Err: err}
	}
	return nil
}

// awaitTurn waits for a close that is at work, and takes its token.
func (g *gate) awaitTurn(ctx context.Context) bool {
	select {
	case g.closer <- struct{}{}: // even if ctx has ended
		return true
	default:
	}
	select {
	case g.closer <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// await calls drain until nothing is out or under way, or ctx ends.
func (g *gate) await(ctx context.Context, drain func()) {
	const first, last = 500 * time.Microsecond, 10 * time.Millisecond
	interval := first
	timer := time.NewTimer(interval)
	defer timer.Stop()
	for {
		quiet := g.state.Load()&(outMask|callMask) == 0
		drain()
		if quiet {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		interval = min(2*interval, last)
		timer.Reset(interval)
	}
}

// waitError is the error of a GetWait whose ctx ended. refused is the last error of the source,
// or nil.
func (g *gate) waitError(ctx context.Context, refused error) error {
	err := fmt.Errorf("no element came back: %w", ctx.Err())
	if refused != nil {
		err = fmt.Errorf("%w; the source refused: %w", err, refused)
	}
	return &OpError{Op: "wait", Discipline: g.label, Err: err}
}

// freeFailures gathers errors of a source's Free.
type freeFailures struct {
	mu    sync.Mutex
	n     int
	first error
}

func (f *freeFailures) add(err error) {
	if err == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.n++; f.n == 1 {
		f.first = err
	}
}

// take returns what was gathered as one error, and forgets it.
func (f *freeFailures) take() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.n == 0 {
		return nil
	}
	err := fmt.Errorf("%w: %d are lost: %w", respool.ErrFree, f.n, f.first)
	f.n, f.first = 0, nil
	return err
}

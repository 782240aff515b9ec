package respool

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"
)

// Close ends the pool. From its start on Get returns ErrClosed. It stops the
// worker (the context of an Alloc under way ends), waits until all elements are put
// back or ctx ends, and frees what it has; the source's Free takes its time
// regardless of ctx. Because Put wakes nobody, Close looks for elements every 500 µs
// at first and every 10 ms later.
//
// If elements are still in use when ctx ends, Close returns an *OpError that is
// ErrLeaked and ctx's error, with their number in Out. From then on Put refuses
// them: the pool does not touch its source after Close, so each stays with the
// caller who holds it. Close may be called again to go on waiting; Put accepts
// elements as long as it does.
//
// Whoever waits is woken: GetWait and the like return ErrClosed, Returned has a token.
//
// Elements in caches are waited for in the same way. The first call of a cache after the
// start of Close gives back what it holds; a cache whose owner makes no call has to be
// flushed or closed.
//
// Reservations are waited for too, and draws from them do not fail meanwhile; their owners
// have to return them. Reserved says how many of Out they hold.
//
// Close returns ErrForeign if more elements came back than were got and no Put noticed, as when that was
// while another element was in the worker's hands. The source's Free has got them all.
//
// Close returns ErrFree if the source failed to free elements, and ErrSourceBusy if
// ctx ended while the worker was inside the source or a hook; then the worker ends, and frees
// what it got, when that returns. Closing a closed pool does nothing.
// Concurrent calls take turns.
func (p *Pool[T]) Close(ctx context.Context) error {
	mightSleep()
	p.ready.head.Or(closing)
	p.shut.Store(true)
	p.stop()
	p.line.close()
	p.tellReturned() // whose receiver learns of Close from its next Get
	if !p.awaitTurn(ctx) {
		return p.closeError(ctx, p.out(), fmt.Errorf("another Close is still at work: %w", ctx.Err()))
	}
	defer func() { <-p.closer }()

	p.ready.head.And(^uint64(sealed))
	var lost freeFailures
	stopped := p.awaitWorker(ctx)
	p.awaitElements(ctx, &lost)
	for !p.ready.seal() {
		p.drain(&lost)
	}
	p.debug.closed(p.out())
	if !stopped { // total may count an element in the worker's hands
		busy := fmt.Errorf("%w: %w", ErrSourceBusy, ctx.Err())
		return p.closeError(ctx, p.out(), busy, lost.err())
	}
	return p.closeError(ctx, int(p.total.Load()), lost.err())
}

// out is how many elements callers have in use or reserved.
func (p *Pool[T]) out() int {
	_, out := p.flow()
	return out
}

// closeError makes one error of errs and of the elements that are out, or too many came back
// if that is negative, nil if there are none.
func (p *Pool[T]) closeError(ctx context.Context, out int, errs ...error) error {
	if out < 0 {
		errs = append(errs, fmt.Errorf("%w: %d of those that Close freed", ErrForeign, -out))
		out = 0
	}
	reserved := max(0, min(int(p.reserved.Load()), out))
	if out > 0 {
		where := ""
		if n := min(p.cached.Load(), int64(out-reserved)); n > 0 {
			where = fmt.Sprintf(", %d of them in caches when those last came to the pool", n)
		}
		if reserved > 0 {
			where += fmt.Sprintf(", %d of them left in reservations", reserved)
		}
		errs = append(errs, fmt.Errorf("%w: %d not put back%s: %w", ErrLeaked, out, where, ctx.Err()))
	}
	err := errors.Join(append(errs, p.debug.unheard())...)
	if err == nil {
		return nil
	}
	return &OpError{Op: "close", Pool: p.opts.Name, Out: out, Reserved: reserved, Err: err}
}

// awaitTurn waits for a Close that is at work, and takes its token.
func (p *Pool[T]) awaitTurn(ctx context.Context) bool {
	select {
	case p.closer <- struct{}{}: // even if ctx has ended
		return true
	default:
	}
	select {
	case p.closer <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// awaitWorker waits for the end of the worker. It gives up when ctx has ended and the
// worker is inside the source or a hook: everywhere else it is about to end.
func (p *Pool[T]) awaitWorker(ctx context.Context) bool {
	select {
	case <-p.stopped:
		return true
	case <-ctx.Done():
	}
	for {
		select {
		case <-p.stopped:
			return true
		default:
		}
		if p.asking.Load() {
			return false
		}
		runtime.Gosched()
	}
}

// awaitElements frees elements as they come back until none is left or ctx ends.
func (p *Pool[T]) awaitElements(ctx context.Context, lost *freeFailures) {
	interval := defaultMinInterval
	timer := time.NewTimer(interval)
	defer timer.Stop()
	for {
		p.drain(lost)
		if p.total.Load() <= 0 { // below 0 with foreign elements among them, see bound
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		interval = min(2*interval, defaultMaxInterval)
		timer.Reset(interval)
	}
}

// drain frees all elements that are ready.
func (p *Pool[T]) drain(lost *freeFailures) {
	begin := time.Now()
	for n := 0; ; n++ {
		i, _, _ := p.ready.pop(0, 0)
		if i == 0 {
			p.showShrunk(n, begin)
			return
		}
		p.removed.Add(1)
		p.work.drained.Add(1)
		p.dispose(i, lost)
	}
}

// dispose frees the element in slot i, which is on no stack.
func (p *Pool[T]) dispose(i uint32, lost *freeFailures) {
	var none T
	e := p.elems[i]
	p.elems[i] = none
	p.total.Add(-1) // first, for who counts what is out
	p.debug.leaves(e)
	if err := p.src.Free(e); err != nil {
		p.work.freeErrors.Add(1)
		lost.add(err)
	}
}

// freeFailures gathers errors of Source.Free. A nil one gathers nothing.
type freeFailures struct {
	n     int
	first error
}

func (f *freeFailures) add(err error) {
	if f == nil {
		return
	}
	if f.n++; f.n == 1 {
		f.first = err
	}
}

func (f *freeFailures) err() error {
	if f.n == 0 {
		return nil
	}
	return fmt.Errorf("%w: %d are lost: %w", ErrFree, f.n, f.first)
}

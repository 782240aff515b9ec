package respool

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"
)

// A Pool is a stock of ready elements of type T. Make one with New; a Pool must
// not be copied.
type Pool[T any] struct {
	src    Source[T]
	opts   Options
	elems  []T // by slot number; slot 0 does not exist
	keep   [classes]int
	errs   hotErrors
	filled uint64
	shut   atomic.Bool // Close was called, for caches, who do not look at ready

	stop    context.CancelFunc // ends the worker
	stopped chan struct{}      // closed by the worker
	closer  chan struct{}      // holds a token while a Close is at work
	_       [cacheLine]byte

	ready  stack // slots that hold an element
	blanks blanks

	bound // of ready, read by every Put
	_     [cacheLine - 16]byte

	// The lowest number free that a Get left behind: since the worker looked, and
	// since New. Read by every Get, written only when it falls.
	dip, lowest atomic.Int64
	_           [cacheLine - 16]byte

	empty atomic.Uint64
	_     [cacheLine - 8]byte

	// Not on the way of Get and Put.
	cached  atomic.Int64  // elements in caches after the last trip of each
	removed atomic.Uint64 // pops of ready by the worker and by Close
	asking  atomic.Bool   // the worker is inside the source or a hook
	work    workCounters
	supply  supply // New's, then the worker's
	view    view

	line     line          // those who wait
	returned chan struct{} // see Returned

	debug ledger[T]
}

// hotErrors are what Get and Put return, made beforehand.
type hotErrors struct {
	empty, getClosed, getCacheClosed   error
	foreign, putClosed, putCacheClosed error
	batch                              error
	spent, split, returnClosed         error
}

// noDip is the value of Pool.dip as long as there was no Get.
const noDip = math.MaxInt64

// New makes a pool over src with opts.Min or opts.Low elements, whichever is more,
// and starts its worker. It calls src.Alloc that often and takes as long. If the
// source fails it frees what it had got and returns ErrNoMemory, or ctx's error if
// that is the reason. Options that contradict each other are ErrBadOptions.
//
// ctx bounds New only, and the pool must be closed to end its worker. The source
// is also called with ctx's values.
func New[T any](ctx context.Context, src Source[T], opts Options) (*Pool[T], error) {
	mightSleep()
	fail := func(err error) (*Pool[T], error) {
		return nil, &OpError{Op: "new", Pool: opts.Name, Err: err}
	}
	if src == nil {
		return fail(fmt.Errorf("%w: the source is nil: give the pool one", ErrBadOptions))
	}
	opts, err := sized(opts, src).resolve(machineMemory())
	if err != nil {
		return fail(err)
	}
	p := &Pool[T]{
		src:      src,
		opts:     opts,
		keep:     [classes]int{Ordinary: opts.OrdinaryMark, Atomic: opts.AtomicMark},
		stopped:  make(chan struct{}),
		closer:   make(chan struct{}, 1),
		returned: make(chan struct{}, 1),
		errs: hotErrors{
			empty:     &OpError{Op: "get", Pool: opts.Name, Err: ErrEmpty},
			getClosed: &OpError{Op: "get", Pool: opts.Name, Err: ErrClosed},
			putClosed: &OpError{Op: "put", Pool: opts.Name, Err: ErrClosed},
			foreign:   &OpError{Op: "put", Pool: opts.Name, Err: ErrForeign},
			batch:     &OpError{Op: "get", Pool: opts.Name, Err: ErrBatch},

			getCacheClosed: &OpError{Op: "get", Pool: opts.Name, Err: ErrCacheClosed},
			putCacheClosed: &OpError{Op: "put", Pool: opts.Name, Err: ErrCacheClosed},

			spent:        &OpError{Op: "get", Pool: opts.Name, Err: ErrSpent},
			split:        &OpError{Op: "split", Pool: opts.Name, Err: ErrSpent},
			returnClosed: &OpError{Op: "return", Pool: opts.Name, Err: ErrClosed},
		},
	}
	slots := opts.Max + p.blanks.init(opts.Max)
	links := make([]atomic.Uint64, slots+1)
	p.elems = make([]T, slots+1)
	p.ready.init(links)
	p.blanks.fill(links, opts.Max+1)
	p.line.init(opts, &p.ready)
	p.view.start = time.Now()
	p.debug.init(p)
	if err := p.fill(ctx, max(opts.Min, opts.Low)); err != nil {
		return fail(err)
	}
	ctx, p.stop = context.WithCancel(context.WithoutCancel(ctx))
	go newWorker(p).run(ctx)
	return p, nil
}

// fill puts the first n elements into slots 1 to n, or none.
func (p *Pool[T]) fill(ctx context.Context, n int) error {
	filling := time.Now()
	for i := 1; i <= n; i++ {
		begin := time.Now()
		e, err := p.src.Alloc(ctx)
		p.supply.took(begin, time.Now())
		if err != nil {
			if ctx.Err() == nil {
				err = fmt.Errorf("%w: it gave %d of %d elements, lower Min and Low or give it more: %w", ErrNoMemory, i-1, n, err)
			}
			var lost freeFailures
			p.drain(&lost)
			return errors.Join(err, lost.err())
		}
		p.elems[i] = e
		p.total.Add(1)
		p.ready.push(uint32(i), 0, nil)
	}
	p.filled = uint64(n)
	p.showGrown(n, filling)
	p.view.supplied(&p.supply)
	p.lowest.Store(int64(n))
	p.dip.Store(noDip)
	return nil
}

// Get takes an element out of the pool. If nothing is ready, but for what is kept for the other
// classes (see As), it returns ErrEmpty, once Close was called ErrClosed. It never sleeps.
//
//gommu:nosleep
func (p *Pool[T]) Get() (T, error) {
	e, err := p.get(p.keep[Ordinary], barred(Ordinary))
	if debugging && err == nil {
		p.debug.got(e, Ordinary)
	}
	return e, err
}

//gommu:nosleep
func (p *Pool[T]) get(keep int, refuse uint64) (T, error) {
	i, left := p.ready.tryPop(keep, refuse)
	if i == 0 {
		return p.getSlow(keep, refuse)
	}
	pauseAt("get: popped")
	if int64(left) < p.dip.Load() {
		p.dipped(left)
	}
	var none T
	e := p.elems[i]
	p.elems[i] = none // keep nothing alive that e points to
	p.blanks.put(uint32(i))
	return e, nil
}

// getSlow is get where the first try failed.
//
//gommu:nosleep
func (p *Pool[T]) getSlow(keep int, refuse uint64) (T, error) {
	i, left, head := p.ready.pop(keep, refuse)
	if i == 0 {
		var none T
		return none, p.refusal(head, 1, classOf(refuse))
	}
	pauseAt("get: popped")
	var e [1]T
	p.dipped(left)
	p.hand(e[:], []uint32{i})
	return e[0], nil
}

// refusal is the error of a Get of n elements that found ready empty or closing.
//
//gommu:nosleep
func (p *Pool[T]) refusal(head uint64, n int, c Class) error {
	if head&closing != 0 {
		return p.errs.getClosed
	}
	if keeps(head) {
		p.line.kept.Add(1)
	}
	p.empty.Add(1)
	showEmpty(p.line.id, n, c)
	return p.errs.empty
}

// dipped notes that a Get left n elements.
//
//gommu:nosleep
func (p *Pool[T]) dipped(n int) {
	if n := int64(n); n < p.dip.Load() {
		lower(&p.dip, n)
		lower(&p.lowest, n)
	}
}

// Put gives an element back that Get returned. While Close waits it is still
// accepted. Put returns ErrForeign if all elements are back already, and ErrClosed
// once Close is over: then e stays the caller's, who may put it during another
// Close or dispose of it through the source. It never sleeps.
//
//gommu:nosleep
func (p *Pool[T]) Put(e T) error {
	if debugging {
		return p.debug.put(e, p.put)
	}
	return p.put(e)
}

//gommu:nosleep
func (p *Pool[T]) put(e T) error {
	i := p.blanks.get()
	if i == 0 {
		return p.noBlank()
	}
	pauseAt("put: slot taken")
	p.elems[i] = e
	if p.ready.tryPush(i, sealed, &p.bound) {
		return nil
	}
	return p.putSlow(i)
}

// putSlow is Put, with the element in slot i, where the first try failed.
//
//gommu:nosleep
func (p *Pool[T]) putSlow(i uint32) error {
	if end := p.ready.push(i, sealed, &p.bound); end != done {
		return p.takeBack(i, end)
	}
	return nil
}

// takeBack empties slot i again, which was not pushed, and says why.
//
//gommu:nosleep
func (p *Pool[T]) takeBack(i uint32, end pushed) error {
	var none T
	p.elems[i] = none
	p.blanks.put(i)
	return p.putError(end)
}

// noBlank is the error of a Put that found no slot: as many elements are back as there were.
//
//gommu:nosleep
func (p *Pool[T]) noBlank() error {
	if p.ready.head.Load()&sealed != 0 {
		return p.errs.putClosed
	}
	return p.errs.foreign
}

// putError is the error of a Put that ended so.
//
//gommu:nosleep
func (p *Pool[T]) putError(end pushed) error {
	switch end {
	case flagged:
		return p.errs.putClosed
	case over:
		return p.errs.foreign
	}
	return nil
}

// lower sets v to n unless it is lower already.
//
//gommu:nosleep
func lower(v *atomic.Int64, n int64) {
	for {
		old := v.Load()
		if old <= n || v.CompareAndSwap(old, n) {
			return
		}
	}
}

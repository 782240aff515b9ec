package discipline

import (
	"context"
	"fmt"
	"time"

	"gommu/respool"
)

// AllocatorFirst is Linux's mempool: the allocator is asked first, the reserve is for when it
// fails. Make one with NewAllocatorFirst.
//
// A get asks TryAlloc, then takes from the reserve. Get fails after that. GetWait asks Alloc
// and, if that fails, looks at the reserve again and waits for a put or 5 s, then asks Alloc again.
// A put refills the reserve and wakes all who wait, if the reserve is not full, and calls Free if
// it is. As in the kernel, the one that is woken asks Alloc before it looks at what was put, so
// others may take that meanwhile, and GetWait ends only with an element or with its context.
//
// Get does not sleep, but takes as long as TryAlloc; Put takes as long as Free.
type AllocatorFirst[T any] struct {
	src     Backing[T]
	gate    *gate
	timeout time.Duration // of a wait for a put

	reserve stock[T]
	bell    *bell // struck when the reserve gets an element
}

// AllocatorFirstOptions configure an AllocatorFirst. The zero value works.
type AllocatorFirstOptions struct {
	// Name stands in errors.
	Name string

	// Reserve is how many elements are allocated beforehand and kept for when the allocator fails,
	// mempool's min_nr. Default 16. The smallest is 1, which mempool, too, makes of 0.
	Reserve int
}

// putTimeout is how long a GetWait waits for a put before it asks the allocator again.
const putTimeout = 5 * time.Second

// NewAllocatorFirst allocates the reserve. It fails with respool.ErrNoMemory if src cannot give that.
func NewAllocatorFirst[T any](ctx context.Context, src Backing[T], opts AllocatorFirstOptions) (*AllocatorFirst[T], error) {
	a := &AllocatorFirst[T]{src: src, gate: newGate(label("allocator-first", opts.Name)), timeout: putTimeout, bell: newBell()}
	n, err := count("Reserve", opts.Reserve, 16)
	if err == nil && src == nil {
		err = fmt.Errorf("%w: the backing is nil: give it one", respool.ErrBadOptions)
	}
	if err == nil {
		a.reserve.elems, err = fill(ctx, src, n)
	}
	if err != nil {
		return nil, &OpError{Op: "new", Discipline: a.gate.label, Err: err}
	}
	return a, nil
}

// Get asks TryAlloc, then takes from the reserve. If both have nothing it returns
// respool.ErrEmpty.
func (a *AllocatorFirst[T]) Get() (T, error) {
	var none T
	if !a.gate.enter() {
		return none, a.gate.errs.getClosed
	}
	e, err := a.src.TryAlloc()
	if err == nil {
		return a.hand(e)
	}
	if e, _, ok := a.reserve.take(); ok {
		return a.hand(e)
	}
	a.leave()
	return none, a.gate.errs.empty
}

// GetWait does what Get does and, if there is nothing, asks Alloc, then waits for a put, until
// there is an element or ctx ends.
func (a *AllocatorFirst[T]) GetWait(ctx context.Context) (T, error) {
	var none T
	if !a.gate.enter() {
		return none, a.gate.errs.getClosed
	}
	e, refused := a.src.TryAlloc()
	if refused == nil {
		return a.hand(e)
	}
	if e, _, ok := a.reserve.take(); ok {
		return a.hand(e)
	}
	a.bell.enter()
	defer a.bell.leave()
	for {
		if e, refused = a.reclaim(ctx); refused == nil {
			return a.hand(e)
		}
		returned := a.bell.listen()
		if e, _, ok := a.reserve.take(); ok {
			return a.hand(e)
		}
		if err := a.await(ctx, returned, refused); err != nil {
			a.leave()
			return none, err
		}
	}
}

// reclaim calls Alloc with a context that ends with ctx or with the discipline.
func (a *AllocatorFirst[T]) reclaim(ctx context.Context) (T, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(a.gate.life, cancel)()
	return a.src.Alloc(ctx)
}

// await waits for a put or the time-out. It returns an error if ctx or the discipline ended.
func (a *AllocatorFirst[T]) await(ctx context.Context, returned <-chan struct{}, refused error) error {
	timer := time.NewTimer(a.timeout)
	defer timer.Stop()
	select {
	case <-returned:
	case <-timer.C:
	case <-ctx.Done():
	case <-a.gate.life.Done():
	}
	switch {
	case a.gate.life.Err() != nil:
		return a.gate.errs.getClosed
	case ctx.Err() != nil:
		return a.gate.waitError(ctx, refused)
	}
	return nil
}

// Put refills the reserve, or frees e if the reserve is full. A failure of Free is reported by
// Close.
func (a *AllocatorFirst[T]) Put(e T) error {
	if err := a.gate.back(); err != nil {
		return err
	}
	a.settle(e)
	return nil
}

// settle is the second half of Put.
func (a *AllocatorFirst[T]) settle(e T) {
	if a.reserve.put(e) {
		a.bell.strike()
	} else {
		a.gate.lost.add(a.src.Free(e))
	}
	a.leave()
}

// Held is the reserve as it is and what is out.
func (a *AllocatorFirst[T]) Held() int { return a.reserve.len() + a.gate.out() }

// Close is as Discipline says.
func (a *AllocatorFirst[T]) Close(ctx context.Context) error { return a.gate.close(ctx, a.drain) }

// hand ends a get that got e.
func (a *AllocatorFirst[T]) hand(e T) (T, error) {
	if a.gate.leaveWith() {
		return e, nil
	}
	var none T
	a.gate.lost.add(a.src.Free(e))
	a.leave()
	return none, a.gate.errs.getClosed
}

// leave ends a call that hands out nothing.
func (a *AllocatorFirst[T]) leave() {
	if a.gate.leave() {
		a.drain()
	}
}

// drain frees the reserve.
func (a *AllocatorFirst[T]) drain() {
	for e, _, ok := a.reserve.take(); ok; e, _, ok = a.reserve.take() {
		a.gate.lost.add(a.src.Free(e))
	}
}

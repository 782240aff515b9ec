package source

import (
	"context"
	"slices"
	"sync"

	"gommu/respool"
)

// Faulty stands before another source and fails, delays or blocks its calls as a test
// asks: a test of a driver puts it between the driver's pool and the pool's source. Only Source has to be
// set; without faults Faulty passes every call on.
//
// All times are those of package time, so inside a bubble of testing/synctest
// they are the bubble's.
type Faulty[T any] struct {
	// Source makes and disposes of the elements.
	Source respool.Source[T]

	OnAlloc Faults // what happens to Alloc
	OnFree  Faults // what happens to Free

	mu   sync.Mutex
	out  int
	lost []T
}

// Alloc meets the faults of OnAlloc and then calls the source's. While it is delayed or
// blocked it returns ctx.Err() as soon as ctx ends.
func (f *Faulty[T]) Alloc(ctx context.Context) (T, error) {
	var zero T
	if err := f.OnAlloc.meet(ctx); err != nil {
		return zero, err
	}
	e, err := f.Source.Alloc(ctx)
	if err != nil {
		return zero, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.out++
	return e, nil
}

// Free meets the faults of OnFree and then calls the source's. An element whose Free it
// fails is lost to the caller, as respool.Source says, and kept for Reclaim.
func (f *Faulty[T]) Free(e T) error {
	if err := f.OnFree.meet(context.Background()); err != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.out--
		f.lost = append(f.lost, e)
		return err
	}
	if err := f.Source.Free(e); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.out--
	return nil
}

// ElemSize is what the source says, 0 if it does not.
func (f *Faulty[T]) ElemSize() int64 {
	if s, ok := f.Source.(respool.Sizer); ok {
		return s.ElemSize()
	}
	return 0
}

// Outstanding is how many elements the callers have: those that Alloc returned and Free
// did neither take nor lose. After everything is closed it is 0, or something leaked. An
// element that the source itself refused to take counts.
func (f *Faulty[T]) Outstanding() int { f.mu.Lock(); defer f.mu.Unlock(); return f.out }

// Lost is how many elements wait for Reclaim.
func (f *Faulty[T]) Lost() int { f.mu.Lock(); defer f.mu.Unlock(); return len(f.lost) }

// Reclaim gives the elements whose Free was failed to the source after all, past all faults. It stops at
// the first that the source does not take and returns its error; that one is kept, and the next
// Reclaim tries it after the others.
func (f *Faulty[T]) Reclaim() error {
	for {
		e, ok := f.found()
		if !ok {
			return nil
		}
		if err := f.Source.Free(e); err != nil {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.lost = slices.Insert(f.lost, 0, e)
			return err
		}
	}
}

func (f *Faulty[T]) found() (e T, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := len(f.lost)
	if n == 0 {
		return e, false
	}
	e = f.lost[n-1]
	f.lost = f.lost[:n-1]
	return e, true
}

// Poison calls Poison of the source, if that is a respool.Poisoner.
func (f *Faulty[T]) Poison(e T) {
	if p, ok := f.Source.(respool.Poisoner[T]); ok {
		p.Poison(e)
	}
}

// Check returns what Check of the source returns, if that is a respool.Poisoner.
func (f *Faulty[T]) Check(e T) error {
	if p, ok := f.Source.(respool.Poisoner[T]); ok {
		return p.Check(e)
	}
	return nil
}

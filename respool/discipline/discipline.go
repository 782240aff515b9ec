package discipline

import (
	"context"
	"errors"
	"fmt"

	"gommu/respool"
)

// A Discipline is a way to have elements ready.
type Discipline[T any] interface {
	// Get is the call of one who may not sleep. It returns respool.ErrEmpty when there
	// is nothing to be had without sleeping, and respool.ErrClosed once Close was called.
	Get() (T, error)

	// GetWait is the call of one who may sleep. It returns an element, respool.ErrClosed
	// once Close was called, or ctx's error when ctx ended before there was one. Where ctx
	// has ended before the call it may return that even if there is one.
	GetWait(ctx context.Context) (T, error)

	// Put gives back an element. It returns respool.ErrForeign when none is out, and
	// respool.ErrClosed once Close is over: the element stays the caller's then. It
	// does not sleep, but for what a source's Free may do.
	Put(T) error

	// Held is how many elements exist because of the discipline: ready or out. An
	// element that is on its way from or to the source may or may not count.
	Held() int

	// Close ends the discipline. From its start on gets return respool.ErrClosed, and
	// those who wait do too. It waits until all elements are put back or ctx ends,
	// and frees what the discipline has. Elements that are out when ctx ends are
	// respool.ErrLeaked; it may be called again to go on waiting for them, and Put accepts
	// them as long as it does. The source is not called any more once Close
	// returned, unless that said respool.ErrSourceBusy: then what was inside the source frees what
	// it gets when it returns. Closing twice is harmless.
	Close(ctx context.Context) error
}

// A Backing is the allocator behind a discipline. All methods may be called at once from
// several goroutines.
type Backing[T any] interface {
	// Alloc is the allocator with reclaim: it may wait. Free disposes of an element.
	respool.Source[T]

	// TryAlloc is the allocator without reclaim: it does not wait, and may fail where
	// Alloc would wait.
	TryAlloc() (T, error)
}

// An OpError is the error of the disciplines of this package but PoolFirst.
type OpError struct {
	Op         string // "new", "get", "wait", "put" or "close"
	Discipline string // which kind, and its Name if it has one
	Out        int    // elements not put back, where Err is respool.ErrLeaked
	Err        error  // an error of package respool, the source's or the context's wrapped in it
}

func (e *OpError) Error() string {
	return "discipline: " + e.Op + " " + e.Discipline + ": " + e.Err.Error()
}

func (e *OpError) Unwrap() error { return e.Err }

// hotErrors are what Get and Put return, made beforehand.
type hotErrors struct {
	empty, getClosed, putClosed, foreign error
}

func newHotErrors(discipline string) hotErrors {
	return hotErrors{
		empty:     &OpError{Op: "get", Discipline: discipline, Err: respool.ErrEmpty},
		getClosed: &OpError{Op: "get", Discipline: discipline, Err: respool.ErrClosed},
		putClosed: &OpError{Op: "put", Discipline: discipline, Err: respool.ErrClosed},
		foreign:   &OpError{Op: "put", Discipline: discipline, Err: respool.ErrForeign},
	}
}

// label is how errors call a discipline.
func label(kind, name string) string {
	if name == "" {
		return kind
	}
	return fmt.Sprintf("%s %q", kind, name)
}

// maxElements is the most that an option may ask for; a Pool can hold as many.
const maxElements = 1<<24 - 1

// count checks an option that counts elements or stocks, and replaces zero by its default.
func count(what string, n, byDefault int) (int, error) {
	if n < 0 {
		return 0, fmt.Errorf("%w: %s is negative (%d): leave it zero for the default", respool.ErrBadOptions, what, n)
	}
	if n > maxElements {
		return 0, fmt.Errorf("%w: %s is %d: use at most %d", respool.ErrBadOptions, what, n, maxElements)
	}
	if n == 0 {
		return byDefault, nil
	}
	return n, nil
}

// fill asks src for n elements. If it cannot give all, what it gave is freed.
func fill[T any](ctx context.Context, src respool.Source[T], n int) ([]T, error) {
	elems := make([]T, 0, n)
	for range n {
		e, err := src.Alloc(ctx)
		if err != nil {
			if ctx.Err() == nil {
				err = fmt.Errorf("%w: it gave %d of %d elements, ask for less or give it more: %w", respool.ErrNoMemory, len(elems), n, err)
			}
			var lost freeFailures
			for _, e := range elems {
				lost.add(src.Free(e))
			}
			return nil, errors.Join(err, lost.take())
		}
		elems = append(elems, e)
	}
	return elems, nil
}

package iova

import (
	"errors"
	"fmt"
	"strconv"

	"gommu/respool"
)

var (
	// ErrEmpty is the answer of Alloc when no window of the class is ready. It is respool.ErrEmpty:
	// the worker sees it at its next look.
	ErrEmpty = respool.ErrEmpty

	// ErrClosed is the answer of everything that hands out windows once Close was called, and of Free once
	// Close is over. It is respool.ErrClosed.
	ErrClosed = respool.ErrClosed

	// ErrBadOptions is what New returns for options that make no sense.
	ErrBadOptions = errors.New("bad options")

	// ErrSize is the answer to a size of zero, to one that no class is large enough for, and to one that is
	// larger than the space or the ring.
	ErrSize = errors.New("no window can have this size")

	// ErrBadRequest is the answer of AllocWait to a request that contradicts itself.
	ErrBadRequest = errors.New("bad request")

	// ErrNoSpace says that no free range is as large as was asked for, or none at such a place.
	ErrNoSpace = errors.New("no such range is free: free windows, widen Ranges or raise Below")

	// ErrNumbers says that as many windows exist as Options.MaxWindows allows.
	ErrNumbers = errors.New("all window numbers are in use: free windows or raise MaxWindows")

	// ErrNotOut is the answer to a Free of what is no window that is out: one that was freed already, or that
	// this space never handed out.
	ErrNotOut = errors.New("window is not out: it was freed before, or is of another space")

	// ErrKind is the answer to a Free in the wrong place: windows of AllocWait go back by FreeWait,
	// those of a ring to that ring.
	ErrKind = errors.New("window goes back another way")

	// ErrInUse is what Close returns when windows are still out, and AllocWait for a fixed place that is taken.
	ErrInUse = errors.New("still in use")

	// ErrPrepare is the answer when Options.Prepare failed, whose error is wrapped beside it.
	ErrPrepare = errors.New("range could not be prepared")

	// ErrRetire is what Close returns when Options.Retire failed to the end, whose last error is wrapped beside it.
	ErrRetire = errors.New("range could not be retired")
)

// An OpError is the error of every function and method of this package.
type OpError struct {
	Op    string // "new", "alloc", "free", "ring" or "close"
	Space string // Options.Name, may be empty
	IOVA  uint64 // of a window, of a fixed place, or of a block that Prepare and Retire are about; otherwise 0
	Size  uint64 // in bytes, 0 where it is not about a size
	Err   error
}

func (e *OpError) Error() string {
	s := "iova: " + e.Op
	if e.Space != "" {
		s += " " + strconv.Quote(e.Space)
	}
	if e.Size != 0 {
		s += fmt.Sprintf(" of %#x bytes", e.Size)
	}
	if e.IOVA != 0 {
		s += fmt.Sprintf(" at %#x", e.IOVA)
	}
	return s + ": " + e.Err.Error()
}

func (e *OpError) Unwrap() error { return e.Err }

// hotErrors are the errors of the ordinary run, made beforehand.
type hotErrors struct {
	empty                 [Classes]error
	closed, freeClosed    error
	cacheClosed           error
	ringFull, ringNumbers error
	ringClosed            error
}

func newHotErrors(name string) hotErrors {
	op := func(op string, size uint64, err error) error {
		return &OpError{Op: op, Space: name, Size: size, Err: err}
	}
	e := hotErrors{
		closed:      op("alloc", 0, ErrClosed),
		freeClosed:  op("free", 0, ErrClosed),
		cacheClosed: op("alloc", 0, respool.ErrCacheClosed),
		ringFull:    op("alloc", 0, fmt.Errorf("the ring has no room before its oldest window: free that, or make the ring larger: %w", ErrEmpty)),
		ringNumbers: op("alloc", 0, fmt.Errorf("the ring has as many windows as it was made for: free the oldest, or make it for more: %w", ErrEmpty)),
		ringClosed:  op("alloc", 0, fmt.Errorf("the ring: %w", ErrClosed)),
	}
	for k := range e.empty {
		e.empty[k] = op("alloc", ClassSize(k), fmt.Errorf("come back later or give the class a higher Low or Max in Options.Stock: %w", ErrEmpty))
	}
	return e
}

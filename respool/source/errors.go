package source

import (
	"errors"
	"strconv"
)

var (
	// ErrNoMemory is what Alloc returns when the limit of the source is reached or the
	// kernel gives no more memory. The kernel's errno is wrapped beside it.
	ErrNoMemory = errors.New("no memory for another block")

	// ErrNoHugePages is what Alloc returns, beside ErrNoMemory, when the kernel has no
	// free hugepage of the size, or knows no such size.
	ErrNoHugePages = errors.New("no hugepage")

	// ErrForeign is what Free returns for a block that is not out: the source did not
	// hand it out, or has it back.
	ErrForeign = errors.New("block is not out")

	// ErrInUse is what Close returns while blocks are out.
	ErrInUse = errors.New("blocks are still out")

	// ErrClosed is what Alloc returns after Close.
	ErrClosed = errors.New("source is closed")

	// ErrBadOptions is what NewPages and NewHugePages return for options that cannot work.
	ErrBadOptions = errors.New("bad options")

	// ErrInjected is what Faulty returns where it was given no other error.
	ErrInjected = errors.New("injected fault")
)

// An OpError is the error of every function and method of Pages and HugePages, but for
// the error of a context that ended, which Alloc returns as it is.
type OpError struct {
	Op     string // "new", "alloc", "free" or "close"
	Source string // "pages" or "hugepages"
	Size   int    // of a block, in bytes
	Err    error  // an error of this package, the kernel's wrapped in it
}

func (e *OpError) Error() string {
	return "source: " + e.Op + " (" + e.Source + ", " + strconv.Itoa(e.Size) + " bytes): " + e.Err.Error()
}

func (e *OpError) Unwrap() error { return e.Err }

package devmem

import "errors"

var (
	// ErrKernelOwns reports a unit that the kernel's driver has taken.
	ErrKernelOwns = errors.New("the kernel drives this unit")
	// ErrBadAddress reports a register address that is not on a page, or a size
	// that is not whole pages.
	ErrBadAddress = errors.New("not a multiple of the page size")
	// ErrNoUnit reports an address at which nothing answers.
	ErrNoUnit = errors.New("no VT-d unit answers there")
	// ErrNoBusAddress reports that the kernel does not say where memory lies.
	ErrNoBusAddress = errors.New("the kernel hides physical addresses")
	// ErrMoved reports memory that the kernel has moved: what devices and the unit
	// were told of it is wrong.
	ErrMoved = errors.New("memory has moved")
	// ErrClosed reports the use of something closed.
	ErrClosed = errors.New("closed")
)

// An OpError is the error of this package. errors.Is finds Err and what it wraps,
// the kernel's errno among it.
type OpError struct {
	Op     string // what was tried: "open unit", "new memory", …
	Target string // what it was tried on; may be empty
	Err    error
	Remedy string // what to do about it; may be empty
}

// Error is "devmem: op target: cause; remedy".
func (e *OpError) Error() string {
	s := "devmem: " + e.Op
	if e.Target != "" {
		s += " " + e.Target
	}
	s += ": " + e.Err.Error()
	if e.Remedy != "" {
		s += "; " + e.Remedy
	}
	return s
}

// Unwrap is the cause.
func (e *OpError) Unwrap() error { return e.Err }

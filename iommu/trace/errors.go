package trace

import (
	"errors"
	"fmt"
)

// What can go wrong.
var (
	ErrBadOptions = errors.New("options contradict each other")
	ErrNoProcess  = errors.New("no such process")
	ErrProgram    = errors.New("not a program that can be read")
	ErrNoProbes   = errors.New("the program has no probes of gommu")
	ErrPermission = errors.New("not permitted")
	ErrKernel     = errors.New("the kernel lacks what this needs")
	ErrClosed     = errors.New("the tracer is closed")
)

// An Error is the error of this package's functions.
type Error struct {
	Op      string // "open", "snapshot", "read", "close"
	Subject string // what it was about: a probe, a program's file, a kernel function; or ""
	Err     error
}

func (e *Error) Error() string {
	if e.Subject == "" {
		return fmt.Sprintf("trace: %s: %v", e.Op, e.Err)
	}
	return fmt.Sprintf("trace: %s: %s: %v", e.Op, e.Subject, e.Err)
}

// Unwrap returns the cause: one of the package's errors, often with an errno below it.
func (e *Error) Unwrap() error { return e.Err }

func failure(op, subject string, err error) error {
	return &Error{op, subject, err}
}

package qtest

import (
	"errors"
	"strings"
)

var (
	// ErrNoQEMU reports that the QEMU executable is not there or cannot be run.
	ErrNoQEMU = errors.New("no usable QEMU")
	// ErrExited reports that QEMU ended although nobody asked it to.
	ErrExited = errors.New("QEMU exited")
	// ErrTimeout reports that QEMU did not answer in time. It is killed then.
	ErrTimeout = errors.New("QEMU did not answer in time")
	// ErrProtocol reports an answer that the qtest protocol does not allow, or
	// a command that QEMU refused.
	ErrProtocol = errors.New("unexpected answer from QEMU")
	// ErrClosed is what a machine reports after Close.
	ErrClosed = errors.New("machine is closed")
	// ErrConfig reports a configuration that cannot be run.
	ErrConfig = errors.New("bad configuration")
)

// An OpError is the error of this package: what was being done, with what, and
// what QEMU had to say.
type OpError struct {
	Op     string // "start", "close", "pci", or the qtest command
	Target string // the QEMU executable or the PCI address; may be empty
	Stderr string // the end of what QEMU printed; may be empty
	Remedy string // what to do about it; may be empty
	Err    error
}

func (e *OpError) Error() string {
	var b strings.Builder
	b.WriteString("qtest: " + e.Op)
	if e.Target != "" {
		b.WriteString(" " + e.Target)
	}
	b.WriteString(": " + e.Err.Error())
	if e.Stderr != "" {
		b.WriteString(": QEMU says: " + e.Stderr)
	}
	if e.Remedy != "" {
		b.WriteString(" (" + e.Remedy + ")")
	}
	return b.String()
}

func (e *OpError) Unwrap() error { return e.Err }

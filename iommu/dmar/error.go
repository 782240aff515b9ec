package dmar

import (
	"errors"
	"fmt"
)

// What can be wrong with a table.
var (
	// ErrNoTable reports a machine without a DMAR table.
	ErrNoTable = errors.New("this machine has no DMAR table")
	// ErrSignature reports bytes that are another table, or none.
	ErrSignature = errors.New("not a DMAR table")
	// ErrTruncated reports a table, structure or scope that goes on behind the end
	// of what it is in.
	ErrTruncated = errors.New("truncated")
	// ErrChecksum reports a table whose bytes do not add up to 0.
	ErrChecksum = errors.New("wrong checksum")
	// ErrLength reports a length field that is too small, odd, or zero.
	ErrLength = errors.New("bad length")
	// ErrWidth reports a host address width that no machine has.
	ErrWidth = errors.New("bad host address width")
	// ErrPath reports a path that no function can have.
	ErrPath = errors.New("bad device path")
	// ErrAddress reports an address that is misaligned, null, or wraps around.
	ErrAddress = errors.New("bad address")
	// ErrOverlap reports two units or two reserved regions that share addresses.
	ErrOverlap = errors.New("overlap")
	// ErrDuplicate reports two of what there may be one of.
	ErrDuplicate = errors.New("duplicate")
	// ErrName reports a device name that is not terminated, or not printable.
	ErrName = errors.New("bad device name")
	// ErrTooLarge reports a Table with a value that its encoding has no room for.
	ErrTooLarge = errors.New("does not fit the encoding")
)

// What can be wrong when scopes are looked up among the machine's devices.
var (
	// ErrNoBridge reports a path through a function that is not there or is no
	// bridge.
	ErrNoBridge = errors.New("no bridge there")
	// ErrLoop reports a bridge that leads back to its own bus or one before.
	ErrLoop = errors.New("the bridge leads back")
	// ErrConflict reports a device that two units claim.
	ErrConflict = errors.New("two units claim the device")
	// ErrScope reports a scope whose type is not known.
	ErrScope = errors.New("unknown type of scope")
)

// OpError is the error type of this package.
type OpError struct {
	Op     string // "parse", "encode", "resolve", "read"
	Target string // the structure, scope or file
	Offset int    // of Target from the table's start in bytes; meaningful for "parse"
	Err    error
	Remedy string // what to do about it; may be empty
}

// Error is "dmar: op target at offset: cause; remedy".
func (e *OpError) Error() string {
	s := "dmar: " + e.Op
	if e.Target != "" {
		s += " " + e.Target
	}
	if e.Op == opParse {
		s += fmt.Sprintf(" at offset %#x", e.Offset)
	}
	s += ": " + e.Err.Error()
	if e.Remedy != "" {
		s += "; " + e.Remedy
	}
	return s
}

// Unwrap is the cause.
func (e *OpError) Unwrap() error { return e.Err }

const opParse = "parse"

// bad is the error of a parse: what and where, the sentinel, and the details.
func bad(target string, offset int, err error, format string, args ...any) error {
	return &OpError{Op: opParse, Target: target, Offset: offset, Err: fmt.Errorf("%w: "+format, append([]any{err}, args...)...)}
}

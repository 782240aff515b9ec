package pci

import (
	"errors"
	"io/fs"
)

// What can be wrong with an address, a function or its configuration space.
var (
	// ErrBadAddress reports text that is no PCI address.
	ErrBadAddress = errors.New("not a PCI address")
	// ErrNotFound reports a function that does not exist.
	ErrNotFound = errors.New("no such PCI function")
	// ErrNoAnswer reports a function whose configuration space reads as all ones:
	// nothing is there, or it has been removed.
	ErrNoAnswer = errors.New("the function does not answer: its configuration space reads as all ones")
	// ErrBadConfig reports an access to configuration space that is misaligned, of a
	// width that is not 1, 2 or 4, or outside the space.
	ErrBadConfig = errors.New("bad configuration space access")
	// ErrCapabilityLoop reports a capability list that leads back into itself.
	ErrCapabilityLoop = errors.New("the capability list has a loop")
	// ErrCapabilityRange reports a capability that starts or ends outside the part of
	// configuration space where its kind may lie.
	ErrCapabilityRange = errors.New("a capability lies outside configuration space")
	// ErrNoBAR reports a base address register that the function does not implement.
	ErrNoBAR = errors.New("the function does not implement this BAR")
	// ErrIOPorts reports a base address register that decodes I/O ports.
	ErrIOPorts = errors.New("the BAR decodes I/O ports, not memory")
	// ErrBadBAR reports a base address register that breaks the specification.
	ErrBadBAR = errors.New("malformed BAR")
	// ErrNoReset reports a function that cannot be reset alone.
	ErrNoReset = errors.New("the function cannot be reset on its own")
	// ErrNoCapability reports a capability that the function does not have.
	ErrNoCapability = errors.New("the function does not have this capability")
)

// What can be wrong with the machine, its IOMMU or its drivers.
var (
	// ErrNoGroup reports a function that no IOMMU covers.
	ErrNoGroup = errors.New("the function is in no IOMMU group")
	// ErrNoDriver reports a driver that is not loaded.
	ErrNoDriver = errors.New("the driver is not loaded")
	// ErrNotBound reports that the kernel left a function without the driver asked for.
	ErrNotBound = errors.New("the driver did not take the function")
	// ErrPermission reports missing rights. It is fs.ErrPermission.
	ErrPermission = fs.ErrPermission
	// ErrClosed reports the use of something closed. It is fs.ErrClosed.
	ErrClosed = fs.ErrClosed
)

// OpError is the error type of this package. errors.Is finds Err and what it wraps,
// the kernel's errno among it.
type OpError struct {
	Op     string // what was tried, such as "bind"
	Target string // what it was tried on: an address, a register, a file
	Err    error
	Remedy string // what to do about it; may be empty
}

// Error is "pci: op target: cause; remedy".
func (e *OpError) Error() string {
	s := "pci: " + e.Op
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

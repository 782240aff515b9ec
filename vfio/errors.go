package vfio

import (
	"errors"
	"fmt"
	"io/fs"
)

// What can be missing for VFIO.
var (
	// ErrNoVFIO reports a kernel without VFIO, or without its modules loaded.
	ErrNoVFIO = errors.New("VFIO is not there")
	// ErrVersion reports a VFIO interface other than version 0.
	ErrVersion = errors.New("unknown VFIO API version")
	// ErrNoType1 reports a VFIO without the type 1 v2 IOMMU interface.
	ErrNoType1 = errors.New("VFIO has no type 1 v2 IOMMU driver")
	// ErrNoIOMMU reports a machine whose IOMMU is off, or a group without one.
	ErrNoIOMMU = errors.New("no IOMMU is on")
	// ErrPermission reports missing rights. It is fs.ErrPermission.
	ErrPermission = fs.ErrPermission
)

// What can be wrong with a group or the order of calls.
var (
	// ErrNotViable reports a group with a member that a driver of the kernel holds.
	ErrNotViable = errors.New("the IOMMU group is not viable")
	// ErrInUse reports a group that another process, or this one, has open.
	ErrInUse = errors.New("the IOMMU group is in use already")
	// ErrNotBound reports a function that no VFIO driver holds.
	ErrNotBound = errors.New("no VFIO driver is bound to the function")
	// ErrNotAttached reports a call that needs a group attached to a container first.
	ErrNotAttached = errors.New("no group is attached to the container yet")
	// ErrAttached reports a group that is attached already.
	ErrAttached = errors.New("the group is attached already")
	// ErrClosed reports the use of something closed. It is fs.ErrClosed.
	ErrClosed = fs.ErrClosed
)

// What can be wrong with a mapping.
var (
	// ErrBadRange reports a range that is empty or passes the end of the address space.
	ErrBadRange = errors.New("bad range")
	// ErrMisaligned reports an IOVA, a size or memory that is not a multiple of the IOMMU's smallest page.
	ErrMisaligned = errors.New("not aligned to the IOMMU's page size")
	// ErrOutsideIOVA reports a range that the IOMMU cannot map: beyond its width or reserved.
	ErrOutsideIOVA = errors.New("outside the IOVA ranges of the IOMMU")
	// ErrBadProt reports a protection that is neither DMARead, DMAWrite nor both.
	ErrBadProt = errors.New("bad protection")
	// ErrOverlap reports that part of the range is mapped already.
	ErrOverlap = errors.New("the range overlaps an existing mapping")
	// ErrEntryLimit reports that the container holds as many mappings as it may.
	ErrEntryLimit = errors.New("the container's mapping entries are used up")
	// ErrMemlock reports that the limit of locked memory is reached.
	ErrMemlock = errors.New("the limit of locked memory is reached")
	// ErrNotMapped reports an unmap of a range in which nothing is mapped.
	ErrNotMapped = errors.New("nothing is mapped there")
	// ErrShortUnmap reports an unmap that found less mapped than it was asked to unmap. What was mapped in the
	// range is unmapped.
	ErrShortUnmap = errors.New("less was mapped than asked to unmap")
	// ErrBisect reports an unmap of a part of a mapping, which type 1 v2 refuses.
	ErrBisect = errors.New("the range cuts through a mapping")
	// ErrUnsupported reports something that this kernel does not offer.
	ErrUnsupported = errors.New("the kernel does not support this")
)

// What can be wrong with a device.
var (
	// ErrBadInfo reports an answer of the kernel that contradicts itself.
	ErrBadInfo = errors.New("malformed information from the kernel")
	// ErrNotPCI reports a VFIO device that is no PCI function.
	ErrNotPCI = errors.New("not a PCI device")
	// ErrNoIRQ reports an interrupt that the device does not have.
	ErrNoIRQ = errors.New("the device does not have this interrupt")
	// ErrIRQEnabled reports interrupts enabled while others are.
	ErrIRQEnabled = errors.New("interrupts are enabled already")
)

// OpError is the error type of this package. errors.Is finds Err and what it wraps, the kernel's errno among it.
type OpError struct {
	Op     string // what was tried, such as "map"
	Target string // the container, group or device
	Range  bool   // whether IOVA and Size say something
	IOVA   uint64
	Size   uint64 // bytes
	Err    error
	Remedy string // what to do about it; may be empty
}

// Error is "vfio: op target: cause; remedy".
func (e *OpError) Error() string {
	s := "vfio: " + e.Op
	if e.Target != "" {
		s += " " + e.Target
	}
	if e.Range {
		s += fmt.Sprintf(" iova %#x size %#x", e.IOVA, e.Size)
	}
	s += ": " + e.Err.Error()
	if e.Remedy != "" {
		s += "; " + e.Remedy
	}
	return s
}

// Unwrap is the cause.
func (e *OpError) Unwrap() error { return e.Err }

package iommu

import (
	"errors"
	"fmt"

	"gommu/respool"
)

// What can be wrong with a call. Each comes wrapped in an OpError, but for those
// that are marked as plain: the ordinary answers of the path that does not
// sleep are ready-made values, because making one allocates.
var (
	ErrNotRegistered = errors.New("memory is not registered: call Register first, or give the domain bounce buffers")
	ErrRegistered    = errors.New("memory is registered already")
	ErrZeroSize      = errors.New("size is zero")
	ErrRange         = errors.New("range wraps around or lies outside of what it should be in")
	ErrTooLarge      = errors.New("larger than a call that does not sleep can map (1 GiB): use MapWait")
	ErrMask          = errors.New("IOVA beyond what the device can drive (its DMA mask)")
	ErrDirection     = errors.New("direction does not fit")
	ErrNotMapped     = errors.New("not a live mapping: unmapped already, or of another domain")
	ErrPart          = errors.New("a part of a mapping: mappings are unmapped whole")
	ErrMapped        = errors.New("still mapped: unmap first")
	ErrOverlap       = errors.New("IOVA is in use")
	ErrBounce        = errors.New("larger than a bounce buffer: register the memory, or use MapWait")
	ErrPieces        = errors.New("list needs more pieces than there is room for")
	ErrSegment       = errors.New("limits of the list cannot be met")
	ErrAttached      = errors.New("device is attached already")
	ErrNotAttached   = errors.New("device is not attached")
	errOtherRing     = fmt.Errorf("%w: rings unmap what they mapped, and nothing else does", ErrNotMapped)
	ErrUnsupported   = errors.New("the hardware behind this domain cannot do this")
	ErrMemory        = errors.New("memory cannot be pinned here")
	ErrBudget        = errors.New("the kernel's number of mappings is used up: register fewer, larger regions")
	ErrOptions       = errors.New("bad options")
	ErrClosed        = errors.New("domain or ring is closed")

	// ErrEmpty (plain) is the answer of a call that does not sleep when a pool is
	// dry at this moment. Nothing has changed. Try again later, or raise the pool's
	// marks. It is also what errors.Is finds in the errors of the pools.
	ErrEmpty = respool.ErrEmpty
	// ErrBusy (plain) is a Binding's answer while somebody else gives the unit a command.
	ErrBusy = errors.New("unit is being given another command at this moment: try again")
	// ErrFlush reports a unit that did not confirm an invalidation. What was
	// unmapped stays out of use until it does; until then devices may reach it.
	ErrFlush = errors.New("unit did not confirm the invalidation")
	// ErrGone is found in the errors of a Binding whose unit was removed: nothing reaches anything
	// through it any more, so what waits for it is done.
	ErrGone = errors.New("unit is gone")
	// ErrCheck reports what Options.Check found: something was reused before the
	// invalidation that covers it. See CheckError.
	ErrCheck = errors.New("reused before its invalidation")
)

// OpError is the type of the errors of this package, but for plain ones.
type OpError struct {
	Op     string // what failed: "map", "unmap", "register", …
	Domain string // Options.Name, may be empty
	IOVA   uint64 // if it is known
	Size   uint64 // bytes
	Detail string // what else helps; may be empty
	Err    error  // what is wrong: one of this package's errors, or of what it calls
}

func (e *OpError) Error() string {
	s := "iommu: " + e.Op
	if e.Domain != "" {
		s += " in " + e.Domain
	}
	if e.Size != 0 || e.IOVA != 0 {
		s += fmt.Sprintf(" of %#x bytes", e.Size)
	}
	if e.IOVA != 0 {
		s += fmt.Sprintf(" at IOVA %#x", e.IOVA)
	}
	s += ": " + e.Err.Error()
	if e.Detail != "" {
		s += " (" + e.Detail + ")"
	}
	return s
}

func (e *OpError) Unwrap() error { return e.Err }

// The values of OpError.Op.
const (
	opNew     = "new"
	opAttach  = "attach"
	opDetach  = "detach"
	opMap     = "map"
	opMapSG   = "map list"
	opUnmap   = "unmap"
	opFlush   = "flush"
	opRecover = "recover"
	opRing    = "ring"
	opClose   = "close"
)

// refuse makes the error of a call that was wrong.
//
//go:noinline
//gommu:refusal
func (d *Domain) refuse(op string, m Mapping, err error) error {
	if err == ErrNotRegistered && d.closed.Load() {
		err = ErrClosed // it took the regions with it
	}
	return &OpError{Op: op, Domain: d.opts.Name, IOVA: m.iova, Size: m.size, Err: err}
}

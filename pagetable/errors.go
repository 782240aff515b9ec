package pagetable

import (
	"errors"
	"fmt"
	"slices"

	"gommu/respool"
)

// What can be wrong with a call. Each comes wrapped in an OpError.
var (
	ErrOverlap      = errors.New("already mapped")
	ErrMisaligned   = errors.New("not a multiple of 4096")
	ErrZeroSize     = errors.New("size is zero")
	ErrRange        = errors.New("IOVA range beyond the table's address width")
	ErrBusRange     = errors.New("bus range beyond 52 bits")
	ErrProt         = errors.New("protection must be read, write or both, and in a first stage include read")
	ErrBatch        = errors.New("no batch, or not one of this table's, or the same twice")
	ErrClosed       = errors.New("table is closed")
	ErrOptions      = errors.New("bad options")
	ErrForeignFrame = errors.New("frame does not belong here")
	ErrCorrupt      = errors.New("a table entry points outside the table memory")
	ErrLevel        = errors.New("no such level of tables below the root")
	ErrPartTable    = errors.New("range ends inside a table: give multiples of what a table of the level translates")
	ErrHolds        = errors.New("a table is held too often: unhold it first")
	ErrMarked       = errors.New("unmapped and not invalidated yet: invalidate, then Unmark")
	ErrNotHeld      = errors.New("a table of the range is not held")
)

// The values of OpError.Op.
const (
	opNew     = "new table"
	opMap     = "map"
	opUnmap   = "unmap"
	opProtect = "protect"
	opMerge   = "merge"
	opHarvest = "harvest"
	opHold    = "hold"
	opUnhold  = "unhold"
	opUnmark  = "unmark"
	opRelease = "release"
	opAdd     = "add batch"
	opClose   = "close"
	opDump    = "dump"
	opDraw    = "draw"
	opMemory  = "new memory"
	opAlloc   = "alloc frame"
	opFree    = "free frame"
)

// rangeOps have an IOVA and a size, and no bus address.
var rangeOps = []string{opUnmap, opProtect, opMerge, opHarvest, opHold, opUnhold, opUnmark}

// OpError is the type of every error of this package.
type OpError struct {
	Op   string // what failed: "map", "unmap", ...
	IOVA uint64 // of the range, as asked for
	Bus  uint64 // of map, as asked for; of a frame or a segment
	Size uint64 // bytes
	At   uint64 // the IOVA of what is in the way (ErrOverlap, ErrMarked) or of the table (ErrNotHeld)
	Err  error  // what is wrong, one of this package's errors or the pool's
}

func (e *OpError) Error() string {
	s := "pagetable: " + e.Op
	switch {
	case e.Bus|e.IOVA|e.Size == 0:
	case e.Op == opMap:
		s += fmt.Sprintf(" iova %#x bus %#x size %#x", e.IOVA, e.Bus, e.Size)
	case slices.Contains(rangeOps, e.Op):
		s += fmt.Sprintf(" iova %#x size %#x", e.IOVA, e.Size)
	default:
		s += fmt.Sprintf(" bus %#x size %#x", e.Bus, e.Size)
	}
	s += ": " + e.Err.Error()
	if e.Err == ErrOverlap || e.Err == ErrMarked || e.Err == ErrNotHeld {
		s += fmt.Sprintf(" at iova %#x", e.At)
	}
	return s
}

func (e *OpError) Unwrap() error { return e.Err }

// How calls fail on a dry pool. A correct caller meets these errors on its hot
// path, so they are made in advance and carry no addresses: failing allocates
// nothing either.
var (
	errDryMap     error = &OpError{Op: opMap, Err: respool.ErrEmpty}
	errDryUnmap   error = &OpError{Op: opUnmap, Err: respool.ErrEmpty}
	errDryProtect error = &OpError{Op: opProtect, Err: respool.ErrEmpty}
	errDryHold    error = &OpError{Op: opHold, Err: respool.ErrEmpty}
)

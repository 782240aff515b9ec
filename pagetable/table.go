package pagetable

import (
	"fmt"
	"sync/atomic"

	"gommu/internal/cacheline"
	"gommu/respool"
)

// Options configure a Table. The zero value is a table of 48 bits with
// superpages for a unit that does not snoop: right on every unit with
// 48-bit tables and superpages.
type Options struct {
	// AddressWidth is the number of IOVA bits that the table translates: 39
	// (three levels) or 48 (four); 0 means 48. The unit says in CAP.SAGAW
	// which it walks.
	AddressWidth int

	// Coherent says that the unit's page walks snoop the CPU's caches (ECAP.C).
	// Otherwise each touched cache line is flushed.
	Coherent bool

	// No2M and No1G forbid leaves of 2 MiB and of 1 GiB, for a unit whose
	// capabilities lack them. A unit without the smaller superpage lacks the
	// larger one too, so No2M implies No1G.
	No2M, No1G bool
}

// A Table is one second-stage page table.
//
// One goroutine at a time may call Map, Unmap, Close, All, Entries, Stats and
// Dump; the caller sees to that. Lookup may run at once with any of them, and
// so may the unit's walks.
type Table struct {
	mem    *Memory
	frames *respool.Pool[Frame]

	root    Frame
	rootPtr atomic.Pointer[[entries]uint64] // nil once closed
	width   int
	top     int // level of the root
	maxLeaf int // highest level at which leaves are allowed

	// unlinks counts the times that tables were taken out of the tree. A
	// Lookup that sees it change may have read a frame that is someone else's
	// by now, and starts again.
	unlinks atomic.Uint64

	// refused are frames that the pool did not take back; Close tries again.
	refused frameList

	coherent bool
	// What makes stores visible to a unit that does not snoop; tests put a
	// model of such memory here.
	flushLines func([]uint64)
	fence      func()
}

// New returns an empty table whose root is a frame from the pool. Frames of
// the pool are zero and lie in mem. New does not block; it fails with
// respool.ErrEmpty when the pool is dry.
func New(mem *Memory, frames *respool.Pool[Frame], opts Options) (*Table, error) {
	return newTable(mem, frames, opts, cacheline.Flush, cacheline.Fence)
}

func newTable(mem *Memory, frames *respool.Pool[Frame], opts Options, flush func([]uint64), fence func()) (*Table, error) {
	t := &Table{
		mem: mem, frames: frames,
		width: opts.AddressWidth, maxLeaf: superTop, coherent: opts.Coherent,
		flushLines: flush, fence: fence,
	}
	switch {
	case opts.No2M:
		t.maxLeaf = 0
	case opts.No1G:
		t.maxLeaf = 1
	}
	if t.width == 0 {
		t.width = 48
	}
	if mem == nil || frames == nil {
		return nil, &OpError{Op: opNew, Err: fmt.Errorf("%w: memory and pool must be given", ErrOptions)}
	}
	if t.width != 39 && t.width != 48 {
		return nil, &OpError{Op: opNew, Err: fmt.Errorf("%w: address width %d, want 39 or 48", ErrOptions, t.width)}
	}
	t.top = (t.width-pageBits)/indexBits - 1
	f, err := t.get()
	if err != nil {
		return nil, &OpError{Op: opNew, Err: err}
	}
	t.root = f
	root := mem.entries(f.Bus)
	t.flush(root[:])
	t.order()
	t.rootPtr.Store(root)
	return t, nil
}

// Root is the frame that the context or PASID entry points to.
func (t *Table) Root() Frame { return t.root }

// AddressWidth is the number of IOVA bits that the table translates.
func (t *Table) AddressWidth() int { return t.width }

// Levels is the number of table levels: 3 for 39 bits, 4 for 48.
func (t *Table) Levels() int { return t.top + 1 }

// Close gives every frame of the table, the root included, back to the pool.
// The unit no longer walks it: the caller has taken it out of the context or
// PASID entry and has invalidated. Frames in a Batch stay there until its
// Release. Close does not block. If the pool refuses frames, being closed, the
// table keeps them and another Close tries again; otherwise a second call
// does nothing.
func (t *Table) Close() error {
	if t.rootPtr.Swap(nil) != nil {
		t.unlinks.Add(1)
		t.collect(&t.refused, t.root, t.top, entries)
	}
	if err := t.putAll(&t.refused); err != nil {
		return &OpError{Op: opClose, Err: err}
	}
	return nil
}

// get takes a frame from the pool. It refuses one that lies elsewhere.
func (t *Table) get() (Frame, error) {
	f, err := t.frames.Get()
	if err != nil {
		return Frame{}, err
	}
	if !t.mem.Contains(f) {
		err := fmt.Errorf("%w: the pool's frame %#x is not in the table's memory", ErrForeignFrame, f.Bus)
		if perr := t.frames.Put(f); perr != nil {
			err = fmt.Errorf("%w; putting it back: %w", err, perr)
		}
		return Frame{}, err
	}
	return f, nil
}

// load reads an entry of a table that hardware may walk; store is in run.go.
func load(p *uint64) pte { return pte(atomic.LoadUint64(p)) }

// child is the table that e points to, or nil if that is not in the table
// memory: something else wrote to it.
func (t *Table) child(e pte) *[entries]uint64 { return t.mem.entries(e.bus()) }

// flush starts to write words back to memory, for a unit that does not snoop.
func (t *Table) flush(words []uint64) {
	if !t.coherent {
		t.flushLines(words)
	}
}

// order makes the flushes before it happen before the stores after it.
func (t *Table) order() {
	if !t.coherent {
		t.fence()
	}
}

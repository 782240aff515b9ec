package pagetable

import (
	"fmt"
	"sync/atomic"

	"gommu/internal/cacheline"
	"gommu/respool"
)

// Options configure a Table. The zero value is a second-stage table of 48 bits
// with superpages for a unit that does not snoop: right on every unit with
// 48-bit tables and superpages.
type Options struct {
	// Stage is the format; the zero value is SecondStage.
	Stage Stage

	// AddressWidth is the number of IOVA bits that the table translates: 39
	// (three levels; second stage only), 48 (four) or 57 (five); 0 means 48.
	// The unit says in CAP.SAGAW which second stages it walks, and in CAP.FL5LP
	// whether it walks first stages of five levels.
	AddressWidth int

	// Coherent says that the unit's page walks snoop the CPU's caches: ECAP.C
	// in legacy mode, ECAP.SMPWC in scalable mode. Otherwise each touched cache
	// line is flushed.
	Coherent bool

	// No2M and No1G forbid leaves of 2 MiB and of 1 GiB, for a unit whose
	// capabilities lack them. A unit without the smaller superpage lacks the
	// larger one too, so No2M implies No1G.
	No2M, No1G bool

	// Marks makes an entry that goes out of use keep a mark, which no unit heeds, until Unmark. A
	// Map, MapExtents or Hold over a mark fails with ErrMarked: it finds reuse before the invalidation.
	// For debugging; maps and unmaps of pages take longer with it.
	Marks bool
}

// A Table is one page table of a unit. The package comment says what may run
// at once.
type Table struct {
	mem    *Memory
	frames *respool.Pool[Frame]

	root    Frame
	rootPtr atomic.Pointer[[entries]uint64] // nil once closed
	stage   Stage
	width   int
	high    int // IOVA bits from here up are equal: all 0, or in a first stage all 1
	top     int // level of the root
	maxLeaf int // highest level at which leaves are allowed

	coherent bool
	marks    bool
	pageBits [Read | Write + 1]uint64 // of a leaf of 4 KiB by its permission, 0 where that is not allowed

	_ [cacheline.Size]byte // what follows is written at run time

	// unlinks counts the times that tables were taken out of the tree, each
	// before the frame can be used again. Who walked down and sees it unchanged
	// walked through tables that were in the tree.
	unlinks atomic.Uint64

	// holds is the number of holds of all tables: 0 spares looking for them.
	holds atomic.Int64

	slots slots

	// orphans are tables that a failed Map unlinked; the next batch takes them.
	orphans frameStack

	// refused are frames that the pool did not take back; Close tries again.
	refused frameStack
}

// New returns an empty table whose root is a frame from the pool. Frames of
// the pool are zero and lie in mem. New does not block; it fails with
// respool.ErrEmpty when the pool is dry.
func New(mem *Memory, frames *respool.Pool[Frame], opts Options) (*Table, error) {
	t := &Table{
		mem: mem, frames: frames,
		stage: opts.Stage, width: opts.AddressWidth, maxLeaf: superTop, coherent: opts.Coherent, marks: opts.Marks,
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
	if why := t.unfit(); why != "" {
		return nil, &OpError{Op: opNew, Err: fmt.Errorf("%w: %s", ErrOptions, why)}
	}
	t.high = t.width
	if t.stage == FirstStage {
		t.high--
	}
	t.top = (t.width-pageBits)/indexBits - 1
	for p := range t.pageBits {
		t.pageBits[p] = pageBitsOf(t.stage, Prot(p))
	}
	t.slots.init()
	f, err := t.get()
	if err != nil {
		return nil, &OpError{Op: opNew, Err: err}
	}
	t.root = f
	root := mem.entries(f.Bus)
	mem.uses(f.Bus).start(1, true)
	t.flush(root[:])
	t.order()
	t.rootPtr.Store(root)
	return t, nil
}

// unfit says what is wrong with the options, or nothing.
func (t *Table) unfit() string {
	switch {
	case t.mem == nil || t.frames == nil:
		return "memory and pool must be given"
	case t.stage == SecondStage && t.width != 39 && t.width != 48 && t.width != 57:
		return fmt.Sprintf("address width %d of a second stage, want 39, 48 or 57", t.width)
	case t.stage == FirstStage && t.width != 48 && t.width != 57:
		return fmt.Sprintf("address width %d of a first stage, want 48 or 57", t.width)
	case t.stage > FirstStage:
		return fmt.Sprintf("stage %d, want SecondStage or FirstStage", t.stage)
	}
	return ""
}

// Root is the frame that the context or PASID entry points to.
func (t *Table) Root() Frame { return t.root }

// Stage is the table's format.
func (t *Table) Stage() Stage { return t.stage }

// AddressWidth is the number of IOVA bits that the table translates.
func (t *Table) AddressWidth() int { return t.width }

// Levels is the number of table levels: 3 for 39 bits, 4 for 48, 5 for 57.
func (t *Table) Levels() int { return t.top + 1 }

// translates says that all of [first, last] is in the space of the table, and
// in one half of it if it has two.
func (t *Table) translates(first, last uint64) bool {
	s := uint(t.high) & 63
	h := int64(first) >> s
	return first <= last && h == int64(last)>>s && (h == 0 || h == -1 && t.stage == FirstStage)
}

// Close gives every frame of the table, the root included, back to the pool.
// No other call runs at the same time but Lookup, and the unit no longer walks
// the table: the caller has taken it out of the context or PASID entry and has
// invalidated. Frames in a Batch stay there until its Release. Close does not
// block. If the pool refuses frames, being closed, the table keeps them and
// another Close tries again; otherwise a second call does nothing.
func (t *Table) Close() error {
	l := t.refused.all(t.mem)
	orphans := t.orphans.all(t.mem)
	for orphans.n > 0 {
		if f, words := orphans.pop(t.mem); words != nil {
			l.push(t.mem, f)
		}
	}
	if t.rootPtr.Swap(nil) != nil {
		t.unlinks.Add(1)
		t.slots.init()
		t.collect(&l, t.root.Bus, t.top)
	}
	err := t.putAll(&l)
	t.refused.pushAll(t.mem, &l)
	if err != nil {
		return &OpError{Op: opClose, Err: err}
	}
	return nil
}

// collect pushes the table at bus and all tables below it. Nobody else can
// reach them; the unit may still read them.
func (t *Table) collect(l *frameList, bus uint64, level int) {
	tbl := t.mem.entries(bus)
	if tbl == nil {
		return
	}
	for i := 0; i < entries && level > 0; i++ {
		if e := load(&tbl[i]); t.present(e) && !e.leaf(level) {
			t.collect(l, e.bus(), level-1)
		}
	}
	t.mem.uses(bus).end()
	l.push(t.mem, Frame{bus})
}

// get takes a frame from the pool. It refuses one that lies elsewhere.
func (t *Table) get() (Frame, error) {
	f, err := t.frames.Get()
	if err != nil {
		return Frame{}, err
	}
	if !t.mem.Contains(f) {
		//gommu:trust the error of a pool that is not for this memory
		err := fmt.Errorf("%w: the pool's frame %#x is not in the table's memory", ErrForeignFrame, f.Bus)
		if perr := t.frames.Put(f); perr != nil {
			//gommu:trust the error of a pool that is not for this memory
			err = fmt.Errorf("%w; putting it back: %w", err, perr)
		}
		return Frame{}, err
	}
	return f, nil
}

// load reads an entry of a table that hardware may walk; store is in run.go.
func load(p *uint64) pte { return pte(atomic.LoadUint64(p)) }

// swap replaces an entry that other goroutines or the unit may write.
func swap(p *uint64, old, e pte) bool {
	return atomic.CompareAndSwapUint64(p, uint64(old), uint64(e))
}

// child is the table that e points to, or nil if that is not in the table
// memory: something else wrote to it.
func (t *Table) child(e pte) *[entries]uint64 { return t.mem.entries(e.bus()) }

// flush starts to write words back to memory, for a unit that does not snoop.
func (t *Table) flush(words []uint64) {
	if !t.coherent && !leftOut() {
		cacheline.Flush(words)
	}
}

// flushNow is flush and order of a table that is not coherent.
func (t *Table) flushNow(words []uint64) {
	if !leftOut() {
		cacheline.FlushNow(words)
	}
}

// order makes the flushes before it happen before the stores after it.
func (t *Table) order() {
	if !t.coherent && !leftOut() {
		cacheline.Fence()
	}
}

package pagetable

import (
	"errors"
	"slices"

	"gommu/respool"
)

// failer is the part of testing.TB and rapid.T that the model uses.
type failer interface {
	Helper()
	Fatalf(string, ...any)
}

// want is a leaf that must be there, keyed by its IOVA.
type want struct {
	bus, size uint64
	prot      Prot
}

// model drives a table and knows what it must hold: a plain map. The splitting
// into leaves, the need for tables and the errors are worked out anew here,
// the slow and obvious way.
type model struct {
	t      failer
	rig    *rig
	tbl    *Table
	opts   Options
	levels int
	leaves map[uint64]want
	batch  Batch
	lo, hi uint64 // of what the batch must cover, hi inclusive; hi = 0: nothing
	gone   int    // frames that the batch must hold
	shadow *shadow
}

func newModel(t failer, r *rig, opts Options) *model {
	t.Helper()
	m := &model{t: t, rig: r, opts: opts, levels: 4, leaves: make(map[uint64]want)}
	if opts.AddressWidth == 39 {
		m.levels = 3
	}
	flush := func([]uint64) { t.Fatalf("flush for a unit that snoops") }
	fence := func() { t.Fatalf("fence for a unit that snoops") }
	if !opts.Coherent {
		m.shadow = newShadow(m)
		flush, fence = m.shadow.flush, m.shadow.fence
	}
	var err error
	if m.tbl, err = newTable(r.mem, r.pool, opts, flush, fence); err != nil {
		t.Fatalf("%v", err)
	}
	return m
}

func (m *model) limit() uint64 { return 1 << (12 + 9*m.levels) }

// split cuts a request into the largest leaves, greedily from the start.
func (m *model) split(iova, bus, size uint64, prot Prot) map[uint64]want {
	sizes := []uint64{gib1, mib2, kib4}
	if m.opts.No2M {
		sizes = sizes[2:]
	} else if m.opts.No1G {
		sizes = sizes[1:]
	}
	out := make(map[uint64]want)
	for size > 0 {
		for _, s := range sizes {
			if iova%s == 0 && bus%s == 0 && size >= s {
				out[iova] = want{bus, s, prot}
				iova, bus, size = iova+s, bus+s, size-s
				break
			}
		}
	}
	return out
}

// tables is how many tables the leaves need, with the root.
func (m *model) tables(sets ...map[uint64]want) int {
	type id struct {
		depth  int
		prefix uint64
	}
	need := map[id]bool{{m.levels, 0}: true}
	for _, set := range sets {
		for iova, l := range set {
			depth := map[uint64]int{kib4: 1, mib2: 2, gib1: 3}[l.size]
			for ; depth <= m.levels; depth++ {
				need[id{depth, iova >> (12 + 9*depth)}] = true
			}
		}
	}
	return len(need)
}

// lowest is the lowest IOVA mapped in [iova, iova+size).
func (m *model) lowest(iova, size uint64) (at uint64, ok bool) {
	for start, l := range m.leaves {
		if start < iova+size && iova < start+l.size {
			if a := max(start, iova); !ok || a < at {
				at, ok = a, true
			}
		}
	}
	return at, ok
}

// doMap maps and compares. All arguments may be wrong.
func (m *model) doMap(iova, bus, size uint64, prot Prot) {
	m.t.Helper()
	before := slices.Clone(m.rig.raw)
	free := m.rig.pool.Stats().Free
	err := m.tbl.Map(iova, bus, size, prot)

	var wantErr error
	var at uint64
	add := map[uint64]want{}
	switch {
	case size == 0:
		wantErr = ErrZeroSize
	case iova%kib4 != 0 || bus%kib4 != 0 || size%kib4 != 0:
		wantErr = ErrMisaligned
	case prot != Read && prot != Write && prot != Read|Write:
		wantErr = ErrProt
	case iova >= m.limit() || size > m.limit()-iova:
		wantErr = ErrRange
	case bus >= 1<<52 || size > 1<<52-bus:
		wantErr = ErrBusRange
	default:
		if a, ok := m.lowest(iova, size); ok {
			wantErr, at = ErrOverlap, a
			break
		}
		add = m.split(iova, bus, size, prot)
		if m.tables(m.leaves, add)-m.tables(m.leaves) > free {
			wantErr = respool.ErrEmpty
		}
	}
	if wantErr == nil {
		if err != nil {
			m.t.Fatalf("map %#x -> %#x size %#x %v: %v", iova, bus, size, prot, err)
		}
		for iova, l := range add {
			m.leaves[iova] = l
		}
		return
	}
	m.sameError("map", err, wantErr, at)
	if !slices.Equal(before, m.rig.raw) {
		m.t.Fatalf("failed map %#x size %#x changed the memory (%v)", iova, size, err)
	}
	if n := m.rig.pool.Stats().Free; n != free {
		m.t.Fatalf("failed map %#x size %#x: %d frames ready, had %d (%v)", iova, size, n, free, err)
	}
}

func (m *model) sameError(op string, err, want error, at uint64) {
	m.t.Helper()
	var oe *OpError
	if !errors.Is(err, want) || !errors.As(err, &oe) || oe.Op != op {
		m.t.Fatalf("%s: got %v, want %v", op, err, want)
	}
	if oe.At != at {
		m.t.Fatalf("%s: %v says %#x is in the way, want %#x", op, err, oe.At, at)
	}
}

// doUnmap unmaps into the batch and compares.
func (m *model) doUnmap(iova, size uint64) {
	m.t.Helper()
	before := slices.Clone(m.rig.raw)
	n, err := m.tbl.Unmap(iova, size, &m.batch)

	last := iova + size - 1
	var wantErr error
	var at uint64
	hit := map[uint64]want{}
	switch {
	case size == 0:
		wantErr = ErrZeroSize
	case iova%kib4 != 0 || size%kib4 != 0:
		wantErr = ErrMisaligned
	case iova >= m.limit() || size > m.limit()-iova:
		wantErr = ErrRange
	default:
		for start, l := range m.leaves {
			end := start + l.size - 1
			if end < iova || start > last {
				continue
			}
			if start < iova || end > last {
				if wantErr == nil || start < at {
					wantErr, at = ErrPartial, start
				}
			}
			hit[start] = l
		}
	}
	if wantErr != nil {
		m.sameError("unmap", err, wantErr, at)
		if n != 0 || !slices.Equal(before, m.rig.raw) {
			m.t.Fatalf("failed unmap %#x size %#x changed something (%d, %v)", iova, size, n, err)
		}
		return
	}
	had := m.tables(m.leaves)
	var bytes uint64
	for start, l := range hit {
		bytes += l.size
		if m.hi == 0 {
			m.lo, m.hi = start, start+l.size-1
		}
		m.lo, m.hi = min(m.lo, start), max(m.hi, start+l.size-1)
		delete(m.leaves, start)
	}
	m.gone += had - m.tables(m.leaves)
	if err != nil || n != bytes {
		m.t.Fatalf("unmap %#x size %#x: %#x bytes, %v; want %#x", iova, size, n, err, bytes)
	}
}

// doRelease gives the batch's frames back.
func (m *model) doRelease() {
	m.t.Helper()
	if err := m.batch.Release(); err != nil {
		m.t.Fatalf("%v", err)
	}
	m.lo, m.hi, m.gone = 0, 0, 0
	if m.shadow != nil {
		m.shadow.forget()
	}
}

// check compares everything that can be seen with what must be.
func (m *model) check() {
	m.t.Helper()
	m.checkLeaves(m.rig.raw)
	if m.shadow != nil {
		m.checkLeaves(m.shadow.bytes)
	}
	m.checkCounts()
	m.checkBatch()
}

// checkLeaves compares what a unit reads in bytes, All and Lookup.
func (m *model) checkLeaves(bytes []byte) {
	m.t.Helper()
	w := m.rig.walker(m.tbl.Root(), m.levels)
	w.bytes = bytes
	hw, tables, err := w.scan()
	if err != nil {
		m.t.Fatalf("the unit finds: %v", err)
	}
	if len(tables) != m.tables(m.leaves) {
		m.t.Fatalf("%d tables, want %d", len(tables), m.tables(m.leaves))
	}
	all := slices.Collect(m.tbl.All())
	if len(hw) != len(m.leaves) || len(all) != len(m.leaves) {
		m.t.Fatalf("the unit finds %d leaves, All %d, want %d", len(hw), len(all), len(m.leaves))
	}
	for i, h := range hw {
		l, ok := m.leaves[h.iova]
		var prot Prot
		if h.r {
			prot |= Read
		}
		if h.w {
			prot |= Write
		}
		if !ok || l != (want{h.bus, h.size, prot}) {
			m.t.Fatalf("the unit finds %+v, want %+v", h, l)
		}
		leaf := Leaf{h.iova, l.bus, l.size, l.prot}
		if all[i] != leaf {
			m.t.Fatalf("All has %+v, want %+v", all[i], leaf)
		}
		for _, iova := range []uint64{h.iova, h.iova + h.size/2 + 7, h.iova + h.size - 1} {
			if got, ok := m.tbl.Lookup(iova); !ok || got != leaf {
				m.t.Fatalf("Lookup(%#x) = %+v, %v, want %+v", iova, got, ok, leaf)
			}
		}
		for _, iova := range []uint64{h.iova - 1, h.iova + h.size} {
			m.checkLookup(w, iova)
		}
	}
}

// checkLookup compares Lookup with the unit's walk and the map, at any IOVA.
func (m *model) checkLookup(w *walker, iova uint64) {
	m.t.Helper()
	var expect Leaf
	for _, s := range []uint64{kib4, mib2, gib1} {
		if l, ok := m.leaves[iova&^(s-1)]; ok && l.size == s {
			expect = Leaf{iova &^ (s - 1), l.bus, l.size, l.prot}
		}
	}
	got, ok := m.tbl.Lookup(iova)
	if got != expect || ok != (expect.Size != 0) {
		m.t.Fatalf("Lookup(%#x) = %+v, %v, want %+v", iova, got, ok, expect)
	}
	h, ok, err := w.translate(iova)
	if err != nil || ok != (expect.Size != 0) || h.iova != expect.IOVA || h.bus != expect.Bus {
		m.t.Fatalf("the unit translates %#x to %+v, %v (%v), want %+v", iova, h, ok, err, expect)
	}
}

func (m *model) checkCounts() {
	m.t.Helper()
	expect := Stats{Tables: m.tables(m.leaves)}
	for _, l := range m.leaves {
		switch l.size {
		case kib4:
			expect.Leaves4K++
		case mib2:
			expect.Leaves2M++
		case gib1:
			expect.Leaves1G++
		}
	}
	if s := m.tbl.Stats(); s != expect {
		m.t.Fatalf("Stats = %+v, want %+v", s, expect)
	}
	if n := m.rig.pool.Stats().InUse; n != expect.Tables+m.gone {
		m.t.Fatalf("%d frames in use, want %d in the tree and %d in the batch", n, expect.Tables, m.gone)
	}
}

func (m *model) checkBatch() {
	m.t.Helper()
	if n := m.batch.Tables(); n != m.gone {
		m.t.Fatalf("%d tables in the batch, want %d", n, m.gone)
	}
	lo, hi, ok := m.batch.Range()
	if ok != (m.hi != 0) || m.batch.Empty() == ok {
		m.t.Fatalf("batch: Range says %v, Empty %v, want something: %v", ok, m.batch.Empty(), m.hi != 0)
	}
	// The range may be wider than the leaves, within the tables they were in.
	if ok && (lo > m.lo || hi < m.hi) {
		m.t.Fatalf("batch covers %#x to %#x, want %#x to %#x", lo, hi, m.lo, m.hi)
	}
}

// finish closes the table; the rig's own close then finds every frame.
func (m *model) finish() {
	m.t.Helper()
	m.doRelease()
	for range 2 {
		if err := m.tbl.Close(); err != nil {
			m.t.Fatalf("%v", err)
		}
	}
	if n := m.rig.pool.Stats().InUse; n != 0 {
		m.t.Fatalf("%d frames still out after Close", n)
	}
}

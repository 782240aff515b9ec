package pagetable

import (
	"errors"
	"maps"
	"slices"

	"gommu/internal/cacheline"
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
	holds  map[held]int
	marks  map[entryID]uint64 // an IOVA of the call that made it
	batch  Batch
	lo, hi uint64 // of what the batch must cover, hi inclusive; hi = 0: nothing
	gone   int    // frames that the batch must hold
	shadow *shadow
	unmaps int
	stop   func()
}

func newModel(t failer, r *rig, opts Options) *model {
	t.Helper()
	m := &model{t: t, rig: r, opts: opts, levels: 4, leaves: make(map[uint64]want), holds: make(map[held]int), marks: make(map[entryID]uint64)}
	switch opts.AddressWidth {
	case 39:
		m.levels = 3
	case 57:
		m.levels = 5
	}
	if opts.Coherent {
		m.stop = cacheline.Watch(func(words []uint64) {
			if at := offset(r.raw, &words[0]); at >= 0 && at < len(r.raw) {
				t.Fatalf("flush for a unit that snoops")
			}
		})
	} else {
		m.shadow = newShadow(m)
		m.stop = m.shadow.stop
	}
	var err error
	if m.tbl, err = New(r.mem, r.pool, opts); err != nil {
		m.stop()
		t.Fatalf("%v", err)
	}
	return m
}

// space is the last IOVA of the lower half of the space, or of all of it, and
// the first of the upper one: 0 if there is none.
func (m *model) space() (lower, upper uint64) {
	bits := 12 + 9*m.levels
	if m.opts.Stage == FirstStage {
		return 1<<(bits-1) - 1, -(uint64(1) << (bits - 1))
	}
	return 1<<bits - 1, 0
}

// inSpace says that the table translates the range, whose size is not 0.
func (m *model) inSpace(iova, size uint64) bool {
	lower, upper := m.space()
	last := iova + size - 1
	return iova <= last && (last <= lower || upper != 0 && iova >= upper)
}

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
			if iova%s == 0 && bus%s == 0 && size >= s && !m.holdsIn(iova, s) {
				out[iova] = want{bus, s, prot}
				iova, bus, size = iova+s, bus+s, size-s
				break
			}
		}
	}
	return out
}

// splitList is split for pieces, of which neighbours are joined.
func (m *model) splitList(iova uint64, list []Extent, prot Prot) map[uint64]want {
	out := make(map[uint64]want)
	for i := 0; i < len(list); {
		x := list[i]
		for i++; i < len(list) && list[i].Bus == x.Bus+x.Size; i++ {
			x.Size += list[i].Size
		}
		maps.Copy(out, m.split(iova, x.Bus, x.Size, prot))
		iova += x.Size
	}
	return out
}

// tableID is the table at a depth, 1 for pages, for the IOVAs that start with prefix.
type tableID struct {
	depth  int
	prefix uint64
}

// tables is how many tables the leaves need, with the root.
func (m *model) tables(sets ...map[uint64]want) int { return len(m.tree(sets...)) }

// tree is which tables the leaves need, with the root.
func (m *model) tree(sets ...map[uint64]want) map[tableID]bool {
	need := map[tableID]bool{{m.levels, 0}: true}
	for h := range m.holds {
		for depth := h.level + 1; depth <= m.levels; depth++ {
			need[m.tableFor(depth, h.iova)] = true
		}
	}
	for _, set := range sets {
		for iova, l := range set {
			depth := map[uint64]int{kib4: 1, mib2: 2, gib1: 3}[l.size]
			for ; depth <= m.levels; depth++ {
				need[m.tableFor(depth, iova)] = true
			}
		}
	}
	return need
}

func (m *model) tableFor(depth int, iova uint64) tableID {
	return tableID{depth, (iova & m.mask()) >> (12 + 9*depth)}
}

// mask has the bits of an IOVA that are translated.
func (m *model) mask() uint64 { return 1<<(12+9*m.levels) - 1 }

// lowest is the lowest IOVA mapped in [iova, iova+size).
func (m *model) lowest(iova, size uint64) (at uint64, ok bool) {
	for start, l := range m.leaves {
		if start <= iova+(size-1) && iova <= start+(l.size-1) {
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
	m.mapped(err, before, free, iova, []Extent{{bus, size}}, prot)
}

// doMapExtents maps a list and compares. The list has at least one extent.
func (m *model) doMapExtents(iova uint64, list []Extent, prot Prot) {
	m.t.Helper()
	before := slices.Clone(m.rig.raw)
	free := m.rig.pool.Stats().Free
	err := m.tbl.MapExtents(iova, list, prot)
	m.mapped(err, before, free, iova, list, prot)
}

// mapped compares what a map did.
func (m *model) mapped(err error, before []byte, free int, iova uint64, list []Extent, prot Prot) {
	m.t.Helper()
	var size uint64
	var wantErr error
	badProt := prot != Read && prot != Read|Write && (prot != Write || m.opts.Stage == FirstStage)
	for _, x := range list { // the first bad one counts
		beyond := x.Bus >= 1<<52 || x.Size > 1<<52-x.Bus
		switch {
		case wantErr != nil:
		case x.Size == 0:
			wantErr = ErrZeroSize
		case iova%kib4 != 0 && (beyond || len(list) == 1) || x.Bus%kib4 != 0 || x.Size%kib4 != 0:
			wantErr = ErrMisaligned
		case !beyond && len(list) > 1:
		case badProt:
			wantErr = ErrProt
		case !m.inSpace(iova, x.Size):
			wantErr = ErrRange
		case beyond:
			wantErr = ErrBusRange
		}
		size += x.Size
	}
	var at uint64
	add := map[uint64]want{}
	switch {
	case wantErr != nil:
	case iova%kib4 != 0:
		wantErr = ErrMisaligned
	case badProt:
		wantErr = ErrProt
	case !m.inSpace(iova, size):
		wantErr = ErrRange
	default:
		if a, ok := m.lowest(iova, size); ok {
			wantErr, at = ErrOverlap, a
		}
		if a, ok := m.lowestMark(iova, size, 1); ok && (wantErr == nil || a < at) {
			wantErr, at = ErrMarked, a
		}
		if wantErr != nil {
			break
		}
		add = m.splitList(iova, list, prot)
		if m.tables(m.leaves, add)-m.tables(m.leaves) > free {
			wantErr = respool.ErrEmpty
		}
	}
	if wantErr == nil {
		if err != nil {
			m.t.Fatalf("map %#x -> %#x %v: %v", iova, list, prot, err)
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
	free := m.rig.pool.Stats().Free
	var ranges []Leaf
	report := func(iova, bus, size uint64) {
		ranges = append(ranges, Leaf{IOVA: iova, Bus: bus, Size: size})
	}
	m.unmaps++
	if m.unmaps%2 == 0 {
		report = nil // another way through the code
	}
	n, err := m.tbl.UnmapEach(iova, size, &m.batch, report)
	hit := m.affected("unmap", err, before, free, iova, size)
	tree := m.tree(m.leaves)
	var bytes uint64
	for start, l := range hit {
		bytes += l.size
		m.touch(start, l.size)
		delete(m.leaves, start)
	}
	m.gone += len(tree) - m.tables(m.leaves)
	m.mark(tree, hit, iova)
	if n != bytes {
		m.t.Fatalf("unmap %#x size %#x: %#x bytes, %v; want %#x", iova, size, n, err, bytes)
	}
	var runs []Leaf
	for _, start := range slices.Sorted(maps.Keys(hit)) {
		l := hit[start]
		if k := len(runs) - 1; k >= 0 && runs[k].IOVA+runs[k].Size == start && runs[k].Bus+runs[k].Size == l.bus {
			runs[k].Size += l.size
			continue
		}
		runs = append(runs, Leaf{IOVA: start, Bus: l.bus, Size: l.size})
	}
	if report != nil && !slices.Equal(runs, ranges) {
		m.t.Fatalf("unmap %#x size %#x reports %x, want %x", iova, size, ranges, runs)
	}
}

// touch adds to what the batch must cover.
func (m *model) touch(start, size uint64) {
	if m.hi == 0 {
		m.lo, m.hi = start, start+size-1
	}
	m.lo, m.hi = min(m.lo, start), max(m.hi, start+size-1)
}

// affected compares the error of a call that cuts superpages with what must
// be, cuts them, and returns the leaves in the range: none if the call had to
// fail.
func (m *model) affected(op string, err error, before []byte, free int, iova, size uint64) map[uint64]want {
	m.t.Helper()
	var wantErr error
	cut := m.leaves
	switch {
	case size == 0:
		wantErr = ErrZeroSize
	case iova%kib4 != 0 || size%kib4 != 0:
		wantErr = ErrMisaligned
	case !m.inSpace(iova, size):
		wantErr = ErrRange
	default:
		cut = maps.Clone(m.leaves)
		m.cutAt(cut, iova)
		m.cutAt(cut, iova+size)
		if m.tables(cut)-m.tables(m.leaves) > free {
			wantErr = respool.ErrEmpty
		}
	}
	if wantErr != nil {
		m.sameError(op, err, wantErr, 0)
		if !slices.Equal(before, m.rig.raw) || m.rig.pool.Stats().Free != free {
			m.t.Fatalf("failed %s %#x size %#x changed something (%v)", op, iova, size, err)
		}
		return nil
	}
	if err != nil {
		m.t.Fatalf("%s %#x size %#x: %v", op, iova, size, err)
	}
	m.leaves = cut
	hit := map[uint64]want{}
	for start, l := range m.leaves {
		if start+(l.size-1) >= iova && start <= iova+size-1 {
			hit[start] = l
		}
	}
	return hit
}

// cutAt replaces a leaf that has x in its middle by 512 parts, and the part
// that has, and so on.
func (m *model) cutAt(leaves map[uint64]want, x uint64) {
	for _, s := range []uint64{gib1, mib2} {
		start := x &^ (s - 1)
		l, ok := leaves[start]
		if !ok || l.size != s || start == x {
			continue
		}
		for i := range uint64(512) {
			leaves[start+i*s/512] = want{l.bus + i*s/512, s / 512, l.prot}
		}
	}
}

// doProtect changes permissions and compares.
func (m *model) doProtect(iova, size uint64, prot Prot) {
	m.t.Helper()
	before := slices.Clone(m.rig.raw)
	free := m.rig.pool.Stats().Free
	n, err := m.tbl.Protect(iova, size, prot, &m.batch)
	if good := prot == Read || prot == Read|Write || prot == Write && m.opts.Stage == SecondStage; !good && errors.Is(err, ErrProt) {
		if !slices.Equal(before, m.rig.raw) {
			m.t.Fatalf("failed protect changed something")
		}
		return
	}
	var bytes uint64
	for start, l := range m.affected("protect", err, before, free, iova, size) {
		bytes += l.size
		if l.prot != prot {
			m.touch(start, l.size)
			m.leaves[start] = want{l.bus, l.size, prot}
		}
	}
	if n != bytes {
		m.t.Fatalf("protect %#x size %#x: %#x bytes, want %#x (%v)", iova, size, n, bytes, err)
	}
}

// doMerge merges and compares. The range is good.
func (m *model) doMerge(iova, size uint64) {
	m.t.Helper()
	n, err := m.tbl.Merge(iova, size, &m.batch)
	if err != nil {
		m.t.Fatalf("merge %#x size %#x: %v", iova, size, err)
	}
	merged := 0
	for _, s := range []uint64{mib2, gib1} {
		if m.opts.No2M || m.opts.No1G && s == gib1 {
			break
		}
		for start, l := range m.leaves {
			if start%s == 0 && l.size == s/512 && l.bus%s == 0 && !m.holdsIn(start, s) && start >= iova && start+(s-1) <= iova+(size-1) && m.adjacent(start, s) {
				for i := range uint64(512) {
					delete(m.leaves, start+i*s/512)
				}
				m.leaves[start] = want{l.bus, s, l.prot}
				m.touch(start, s)
				merged++
			}
		}
	}
	m.gone += merged
	if n != merged {
		m.t.Fatalf("merge %#x size %#x: %d tables, want %d", iova, size, n, merged)
	}
}

// adjacent says that 512 leaves at start are parts of one of the given size.
func (m *model) adjacent(start, size uint64) bool {
	l := m.leaves[start]
	for i := range uint64(512) {
		if m.leaves[start+i*size/512] != (want{l.bus + i*size/512, size / 512, l.prot}) {
			return false
		}
	}
	return true
}

// doRelease gives the batch's frames back.
func (m *model) doRelease() {
	m.t.Helper()
	m.unmarkBatch()
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
	w := m.rig.walker(m.tbl)
	w.bytes, w.held, w.marks = bytes, len(m.holds) > 0, m.seenMarks()
	hw, tables, err := w.scan()
	if err != nil {
		m.t.Fatalf("the unit finds: %v", err)
	}
	m.checkMarks(w, &bytes[0] == &m.rig.raw[0])
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
	m.stop()
	for range 2 {
		if err := m.tbl.Close(); err != nil {
			m.t.Fatalf("%v", err)
		}
	}
	if n := m.rig.pool.Stats().InUse; n != 0 {
		m.t.Fatalf("%d frames still out after Close", n)
	}
}

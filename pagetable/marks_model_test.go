package pagetable

import "maps"

// entryID is the entry for iova and what follows in a table at a depth, 1 for pages.
type entryID struct {
	depth int
	iova  uint64
}

func (e entryID) size() uint64 { return kib4 << (9 * (e.depth - 1)) }

// mark adds the marks of a call with first at the start of its range, which took leaves out and tables
// of tree.
func (m *model) mark(tree map[tableID]bool, leaves map[uint64]want, first uint64) {
	if !m.opts.Marks {
		return
	}
	now := m.tree(m.leaves)
	maps.DeleteFunc(m.marks, func(e entryID, _ uint64) bool { return !now[m.tableFor(e.depth, e.iova)] })
	add := func(depth int, iova uint64) {
		for !now[m.tableFor(depth, iova)] {
			depth++
		}
		e := entryID{depth, 0}
		e.iova = iova &^ (e.size() - 1)
		m.marks[e] = max(e.iova, first)
	}
	for iova, l := range leaves {
		add(map[uint64]int{kib4: 1, mib2: 2, gib1: 3}[l.size], iova)
	}
	for id := range tree {
		if !now[id] {
			add(id.depth, m.rig.walker(m.tbl).extend(id.prefix<<(12+9*id.depth)))
		}
	}
}

// lowestMark is the lowest IOVA in the range that an entry of at least the depth has a mark for.
func (m *model) lowestMark(iova, size uint64, depth int) (at uint64, ok bool) {
	for e := range m.marks {
		if e.depth >= depth && e.iova <= iova+(size-1) && iova <= e.iova+(e.size()-1) {
			if a := max(e.iova, iova); !ok || a < at {
				at, ok = a, true
			}
		}
	}
	return at, ok
}

// seenMarks is where a walker puts marks: nil if there may be none.
func (m *model) seenMarks() map[entryID]uint64 {
	if !m.opts.Marks {
		return nil
	}
	return make(map[entryID]uint64)
}

// checkMarks compares the marks that w has found. Memory that the unit sees may still have some that the
// processor has taken away.
func (m *model) checkMarks(w *walker, all bool) {
	m.t.Helper()
	if all && len(w.marks) != len(m.marks) {
		m.t.Fatalf("%d marks, want %d", len(w.marks), len(m.marks))
	}
	for e, made := range m.marks {
		if word := made&(1<<57-1)&^0xfff | 0x550; w.marks[e] != word {
			m.t.Fatalf("the mark for %#x, depth %d, is %#x, want %#x", e.iova, e.depth, w.marks[e], word)
		}
	}
}

// doUnmark takes marks away and compares. All arguments may be wrong.
func (m *model) doUnmark(iova, size uint64) {
	m.t.Helper()
	err := m.tbl.Unmark(iova, size)
	var wantErr error
	switch {
	case size == 0:
		wantErr = ErrZeroSize
	case iova%kib4 != 0 || size%kib4 != 0:
		wantErr = ErrMisaligned
	case !m.inSpace(iova, size):
		wantErr = ErrRange
	}
	if wantErr != nil {
		m.sameError("unmark", err, wantErr, 0)
		return
	}
	if err != nil {
		m.t.Fatalf("unmark %#x size %#x: %v", iova, size, err)
	}
	maps.DeleteFunc(m.marks, func(_ entryID, made uint64) bool { return made-iova < size })
}

// unmarkBatch unmarks what the batch covers: that is all since its last release.
func (m *model) unmarkBatch() {
	m.t.Helper()
	first, last, ok := m.batch.Range()
	if lower, upper := m.space(); ok && upper != 0 && first <= lower && last >= upper {
		m.doUnmark(first, lower+1-first)
		m.doUnmark(upper, last-upper+1)
	} else if ok {
		m.doUnmark(first, last-first+1)
	}
	if len(m.marks) > 0 {
		m.t.Fatalf("the batch, %#x to %#x, leaves marks: %v", first, last, m.marks)
	}
}

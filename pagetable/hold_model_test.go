package pagetable

import (
	"cmp"
	"slices"

	"gommu/respool"
)

// held is a table that is held: the one of level that translates iova and what follows.
type held struct {
	level int
	iova  uint64
}

func (h held) size() uint64 { return kib4 << (9 * (h.level + 1)) }

func (h held) compare(o held) int {
	return cmp.Or(cmp.Compare(h.iova, o.iova), cmp.Compare(h.level, o.level))
}

// holdsIn says that a table is held that translates no more than a part of [iova, iova+size).
func (m *model) holdsIn(iova, size uint64) bool {
	for h := range m.holds {
		if h.size() <= size && h.iova-iova < size {
			return true
		}
	}
	return false
}

// tablesIn are the tables of level for the range, with what is wrong with a hold of them.
func (m *model) tablesIn(iova, size uint64, level int) (list []held, err error) {
	span := held{level: max(level, 0)}.size()
	switch {
	case level < 0 || level >= m.levels-1:
		return nil, ErrLevel
	case size == 0:
		return nil, ErrZeroSize
	case iova%span != 0 || size%span != 0:
		return nil, ErrPartTable
	case !m.inSpace(iova, size):
		return nil, ErrRange
	}
	for off := uint64(0); off < size; off += span {
		list = append(list, held{level, iova + off})
	}
	return list, nil
}

// doHold holds and compares. All arguments may be wrong.
func (m *model) doHold(iova, size uint64, level int) {
	m.t.Helper()
	before := slices.Clone(m.rig.raw)
	free := m.rig.pool.Stats().Free
	err := m.tbl.Hold(iova, size, level)
	list, wantErr := m.tablesIn(iova, size, level)
	var at uint64
	if wantErr == nil {
		for start, l := range m.leaves {
			if a := max(start, iova); l.size >= list[0].size() && start <= iova+(size-1) && iova <= start+(l.size-1) && (wantErr == nil || a < at) {
				wantErr, at = ErrOverlap, a
			}
		}
	}
	if len(list) > 0 {
		if a, ok := m.lowestMark(iova, size, level+2); ok && (wantErr == nil || a < at) {
			wantErr, at = ErrMarked, a
		}
	}
	if wantErr == nil {
		had := m.tables(m.leaves)
		for _, h := range list {
			m.holds[h]++
		}
		if m.tables(m.leaves)-had > free {
			wantErr = respool.ErrEmpty
			m.unhold(list)
		}
	}
	if wantErr == nil {
		if err != nil {
			m.t.Fatalf("hold %#x size %#x level %d: %v", iova, size, level, err)
		}
		return
	}
	m.sameError("hold", err, wantErr, at)
	if !slices.Equal(before, m.rig.raw) || m.rig.pool.Stats().Free != free {
		m.t.Fatalf("failed hold %#x size %#x level %d changed something (%v)", iova, size, level, err)
	}
}

func (m *model) unhold(list []held) {
	for _, h := range list {
		if m.holds[h]--; m.holds[h] == 0 {
			delete(m.holds, h)
		}
	}
}

// doUnhold unholds into the batch and compares. All arguments may be wrong.
func (m *model) doUnhold(iova, size uint64, level int) {
	m.t.Helper()
	before := slices.Clone(m.rig.raw)
	tables := m.batch.Tables()
	err := m.tbl.Unhold(iova, size, level, &m.batch)
	list, wantErr := m.tablesIn(iova, size, level)
	var at uint64
	for _, h := range list {
		if m.holds[h] == 0 && wantErr == nil {
			wantErr, at = ErrNotHeld, h.iova
		}
	}
	if wantErr != nil {
		m.sameError("unhold", err, wantErr, at)
		if !slices.Equal(before, m.rig.raw) || m.batch.Tables() != tables {
			m.t.Fatalf("failed unhold %#x size %#x level %d changed something (%v)", iova, size, level, err)
		}
		return
	}
	if err != nil {
		m.t.Fatalf("unhold %#x size %#x level %d: %v", iova, size, level, err)
	}
	tree := m.tree(m.leaves)
	for _, h := range list {
		had := m.tables(m.leaves)
		m.unhold([]held{h})
		if n := had - m.tables(m.leaves); n > 0 {
			m.gone += n
			m.touch(h.iova, h.size())
		}
	}
	m.mark(tree, nil, iova)
}

package pagetable

import "iter"

// Lookup returns the leaf that translates iova. It may be called at any time,
// by any number of goroutines, also while the table is being changed: it sees
// each leaf as it was before or after. It does not block; it starts again if a
// table went out of use under it.
//
//gommu:nosleep
func (t *Table) Lookup(iova uint64) (Leaf, bool) {
	for {
		n := t.unlinks.Load()
		l, ok := t.find(iova)
		if t.unlinks.Load() == n {
			return l, ok
		}
	}
}

// find is one try of Lookup.
func (t *Table) find(iova uint64) (Leaf, bool) {
	tbl := t.rootPtr.Load()
	if iova>>t.width != 0 {
		return Leaf{}, false
	}
	for level := t.top; tbl != nil; level-- {
		e := load(&tbl[index(iova, level)])
		if !e.present() {
			break
		}
		if e.leaf(level) {
			size := span(level)
			return Leaf{IOVA: iova &^ (size - 1), Bus: e.bus() &^ (size - 1), Size: size, Prot: e.prot()}, true
		}
		tbl = t.child(e)
	}
	return Leaf{}, false
}

// All yields every leaf in the order of IOVAs. The table is not changed
// meanwhile.
func (t *Table) All() iter.Seq[Leaf] { return t.leaves(0, 1<<t.width-1) }

// leaves yields the leaves that translate a part of [first, last].
func (t *Table) leaves(first, last uint64) iter.Seq[Leaf] {
	return func(yield func(Leaf) bool) {
		if root := t.rootPtr.Load(); root != nil {
			t.walk(root, t.root, t.top, first, last, func(e Entry) bool {
				return !e.Leaf || yield(Leaf{IOVA: e.IOVA, Bus: e.Bus, Size: e.Size, Prot: e.Prot})
			})
		}
	}
}

// An Entry is one entry in use of one table: a leaf, or a link to the table
// below.
type Entry struct {
	Table      Frame  // the table that it is in
	Level      int    // of that table, 0 holds 4 KiB leaves
	Index      int    // in that table
	Raw        uint64 // the word itself
	IOVA, Size uint64 // what it translates
	Leaf       bool
	Bus        uint64 // of the memory mapped, or of the next table
	Prot       Prot   // of a leaf
	Used       int    // entries in use in the next table
}

// Entries yields every entry in use, tables before what is in them, in the
// order of IOVAs. The table is not changed meanwhile.
func (t *Table) Entries() iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		if root := t.rootPtr.Load(); root != nil {
			t.walk(root, t.root, t.top, 0, 1<<t.width-1, yield)
		}
	}
}

// walk yields the entries for [first, last] in the table at f and below. It
// says whether to go on.
func (t *Table) walk(tbl *[entries]uint64, f Frame, level int, first, last uint64, yield func(Entry) bool) bool {
	size := span(level)
	for i := index(first, level); i <= index(last, level); i++ {
		e := load(&tbl[i])
		if !e.present() {
			continue
		}
		lo, hi := clip(level, i, first, last)
		n := Entry{Table: f, Level: level, Index: i, Raw: uint64(e), IOVA: lo &^ (size - 1), Size: size, Leaf: e.leaf(level), Bus: e.bus()}
		if n.Leaf {
			n.Bus &^= size - 1
			n.Prot = e.prot()
		} else {
			n.Used = e.used()
		}
		if !yield(n) {
			return false
		}
		if n.Leaf {
			continue
		}
		if next := t.child(e); next != nil && !t.walk(next, Frame{n.Bus}, level-1, lo, hi, yield) {
			return false
		}
	}
	return true
}

package pagetable

import "iter"

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
	Accessed   bool   // the unit has used it
	Dirty      bool   // of a leaf: the unit has written through it
	Used       int    // uses of the next table: its entries in use, and what calls are about to add
	Holds      int    // how often the next table is held (Table.Hold)
}

// All yields every leaf in the order of IOVAs. The table may be changed
// meanwhile: each page of the table is seen as it was at one moment, and what
// does not change is seen.
func (t *Table) All() iter.Seq[Leaf] {
	return func(yield func(Leaf) bool) {
		for e := range t.Entries() {
			if e.Leaf && !yield(Leaf{e.IOVA, e.Bus, e.Size, e.Prot}) {
				return
			}
		}
	}
}

// leaves yields the leaves that translate a part of [first, last].
func (t *Table) leaves(first, last uint64) iter.Seq[Leaf] {
	return func(yield func(Leaf) bool) {
		t.visit(0, first, last, func(e Entry) bool {
			return !e.Leaf || yield(Leaf{e.IOVA, e.Bus, e.Size, e.Prot})
		})
	}
}

// Entries yields every entry in use, tables before what is in them, in the
// order of IOVAs. The table may be changed meanwhile, as for All.
func (t *Table) Entries() iter.Seq[Entry] {
	return func(yield func(Entry) bool) { t.visitAll(0, yield) }
}

// visitAll yields the entries of level and above.
func (t *Table) visitAll(lowest int, yield func(Entry) bool) {
	half := uint64(1)<<t.high - 1
	if t.visit(lowest, 0, half, yield) && t.stage == FirstStage {
		t.visit(lowest, ^half, ^uint64(0), yield)
	}
}

// visit yields the entries of lowest and above for [first, last]. It says
// whether to go on.
func (t *Table) visit(lowest int, first, last uint64, yield func(Entry) bool) bool {
	if t.stage == FirstStage {
		return core[firstFormat]{t}.visit(t.top, lowest, first, last, yield)
	}
	return core[secondFormat]{t}.visit(t.top, lowest, first, last, yield)
}

// visit yields the entries for [first, last] of the table of level that
// translates it, and of those below. If the table has just been merged it yields the
// leaf in its place.
func (c core[F]) visit(level, lowest int, first, last uint64, yield func(Entry) bool) bool {
	var words [entries]pte
	f, merged, ok := c.copyTable(&words, level, first)
	if !ok {
		return merged.Size == 0 || yield(merged)
	}
	for i := index(first, level); i <= index(last, level); i++ {
		e := words[i]
		if !present[F](e) {
			continue
		}
		lo, hi := clip(level, i, first, last)
		n := Entry{
			Table: f, Level: level, Index: i, Raw: uint64(e), IOVA: lo &^ (span(level) - 1), Size: span(level),
			Leaf: e.leaf(level), Bus: e.bus(), Accessed: e&accessed[F]() != 0,
		}
		if n.Leaf {
			n.Bus &^= n.Size - 1
			n.Prot, n.Dirty = protOf[F](e), e&dirty[F]() != 0
		} else if u := c.mem.uses(n.Bus); u != nil {
			n.Used, n.Holds = u.uses(), holds(u.word.Load())
			if level == 1 && n.Holds > 0 {
				n.Used = c.pagesIn(lo)
			}
		}
		if !yield(n) || !n.Leaf && level > lowest && !c.visit(level-1, lowest, lo, hi, yield) {
			return false
		}
	}
	return true
}

// pagesIn counts the leaves in the table of pages that translates iova. Those of a held
// one are not in its use count.
func (c core[F]) pagesIn(iova uint64) (n int) {
	var words [entries]pte
	if _, _, ok := c.copyTable(&words, 0, iova); ok {
		for _, e := range words {
			if present[F](e) {
				n++
			}
		}
	}
	return n
}

// copyTable copies the table of level that translates iova, as it was at
// a time when it was in the tree. It says whether there is one. If a leaf is in its
// place, merged is what of it the table would translate.
func (c core[F]) copyTable(words *[entries]pte, level int, iova uint64) (f Frame, merged Entry, ok bool) {
again:
	for {
		unlinks := c.unlinks.Load()
		tbl, f := c.rootPtr.Load(), c.root
		for l := c.top; l > level && tbl != nil; l-- {
			e := load(&tbl[index(iova, l)])
			if !present[F](e) || e.leaf(l) {
				if c.unlinks.Load() != unlinks {
					continue again
				}
				if present[F](e) {
					merged = mergedEntry[F](f, e, l, level+1, iova)
				}
				return Frame{}, merged, false
			}
			pause()
			tbl, f = c.child(e), Frame{e.bus()}
		}
		if tbl == nil {
			return Frame{}, Entry{}, false // closed, or not a table of this memory
		}
		for i := range tbl {
			words[i] = load(&tbl[i])
		}
		if c.unlinks.Load() == unlinks {
			return f, Entry{}, true
		}
	}
}

// mergedEntry is the part of the leaf e that one of level, no higher than its own,
// would be. The leaf translates iova, and is in table f of the level at.
func mergedEntry[F format](f Frame, e pte, at, level int, iova uint64) Entry {
	size := span(level)
	bus := e.bus()&^(span(at)-1) | iova&(span(at)-1)
	return Entry{Table: f, Level: at, Index: index(iova, at), Raw: uint64(e), IOVA: iova &^ (size - 1), Size: size,
		Leaf: true, Bus: bus &^ (size - 1), Prot: protOf[F](e),
		Accessed: e&accessed[F]() != 0, Dirty: e&dirty[F]() != 0}
}

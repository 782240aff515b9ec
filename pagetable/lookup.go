package pagetable

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
	if t.stage == FirstStage {
		return core[firstFormat]{t}.find(iova)
	}
	return core[secondFormat]{t}.find(iova)
}

func (c core[F]) find(iova uint64) (Leaf, bool) {
	tbl := c.rootPtr.Load()
	if !c.translates(iova, iova) {
		return Leaf{}, false
	}
	for level := c.top; tbl != nil; level-- {
		e := load(&tbl[index(iova, level)])
		if !present[F](e) {
			break
		}
		if e.leaf(level) {
			return leafOf[F](e, iova, level), true
		}
		pause()
		tbl = c.child(e)
	}
	return Leaf{}, false
}

// leafOf is the leaf e of level that translates iova.
func leafOf[F format](e pte, iova uint64, level int) Leaf {
	size := span(level)
	return Leaf{IOVA: iova &^ (size - 1), Bus: e.bus() &^ (size - 1), Size: size, Prot: protOf[F](e)}
}

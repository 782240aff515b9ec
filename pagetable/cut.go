package pagetable

// cut makes borders between leaves at first and after last: it replaces a
// superpage that has one of them in its middle by a table of leaves that map
// the same. It takes all frames before the first store; when it fails it has
// changed nothing. The range, and what of the leaves lies outside, may be in use by a
// device all the time.
func (c core[F]) cut(first, last uint64) error {
	need := c.cutNeeds(first, last)
	if need == 0 {
		return nil
	}
	spare, err := c.take(need)
	if err != nil {
		return err
	}
	c.cutAt(first, &spare)
	if last+1 != 0 {
		c.cutAt(last+1, &spare)
	}
	// What others cut first is not needed. A refusal is Close's to tell.
	_ = c.putBack(&spare)
	return nil
}

// cutNeeds is how many tables the cuts take. Others can only make it fewer.
func (c core[F]) cutNeeds(first, last uint64) (n int) {
	a, cutA := c.Lookup(first)
	cutA = cutA && a.IOVA != first
	b, cutB := c.Lookup(last)
	cutB = cutB && b.IOVA+(b.Size-1) != last
	end := last + 1
	for level := superTop - 1; level >= 0; level-- { // tables of this level
		needA := cutA && span(level) < a.Size && first&(span(level+1)-1) != 0
		needB := cutB && span(level) < b.Size && end&(span(level+1)-1) != 0
		switch {
		case needA && needB && first>>shift(level+1) == end>>shift(level+1):
			n++
		default:
			if needA {
				n++
			}
			if needB {
				n++
			}
		}
	}
	return n
}

// cutAt makes a border at iova.
func (c core[F]) cutAt(iova uint64, spare *frameList) {
	for spare.n > 0 {
		slot, level := c.leafAt(iova)
		if slot == nil || iova&(span(level)-1) == 0 {
			return
		}
		e := load(slot)
		if !present[F](e) || !e.leaf(level) {
			continue // others have cut it just now
		}
		f, tbl := spare.pop(c.mem)
		if tbl == nil {
			return
		}
		first := e
		if level == 1 {
			first &^= bitLeaf
		}
		fill(tbl[:], uint64(first), span(level-1))
		u := c.mem.uses(f.Bus)
		u.start(entries, false)
		// The unit must not see the link before what it leads to.
		c.flush(tbl[:])
		c.order()
		pause()
		if swap(slot, e, linkEntry[F](f.Bus)) {
			if !c.coherent {
				c.showLinks(iova, level-1)
				c.order()
			}
			u.word.Or(linkSeen)
			continue
		}
		fill(tbl[:], 0, 0)
		u.end()
		spare.push(c.mem, f)
	}
}

// leafAt finds the leaf that translates iova and its level, or nil. A part of
// it is the caller's, so the table that it is in stays.
func (c core[F]) leafAt(iova uint64) (slot *uint64, level int) {
	for {
		unlinks := c.unlinks.Load()
		slot = nil
		tbl := c.rootPtr.Load()
		for level = c.top; tbl != nil; level-- {
			p := &tbl[index(iova, level)]
			e := load(p)
			if !present[F](e) {
				break
			}
			if e.leaf(level) {
				slot = p
				break
			}
			tbl = c.child(e)
		}
		if c.unlinks.Load() == unlinks {
			return slot, level
		}
	}
}

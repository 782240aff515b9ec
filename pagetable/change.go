package pagetable

import "gommu/respool"

// Protect changes what the device may do with what is mapped in size bytes at
// iova, and returns how many bytes that is; holes are skipped. It changes leaves
// in place, so a device that is allowed both before and after notices nothing.
// Superpages are cut as by Unmap, and the pool may be too dry for that; then
// nothing has changed. The unit may use the old permission until the
// invalidation that b, which must be given, asks for.
//
//gommu:nosleep
func (t *Table) Protect(iova, size uint64, prot Prot, b *Batch) (uint64, error) {
	if err := t.refuse(opProtect, iova, size, b); err != nil {
		return 0, err
	}
	if t.stage == FirstStage {
		return change[firstFormat]{core: core[firstFormat]{t}, prot: prot}.protect(iova, iova+size-1, b)
	}
	return change[secondFormat]{core: core[secondFormat]{t}, prot: prot}.protect(iova, iova+size-1, b)
}

// Access is a leaf and what the unit has noted in it.
type Access struct {
	Leaf
	Accessed, Dirty bool
}

// Harvest calls f for every leaf that translates a part of [iova, iova+size)
// and that the unit has marked as accessed or written, in the order of IOVAs. With clear it takes
// the marks away. The unit sets one again only after the invalidation that
// b, which must be given, asks for then. f must not use the table.
//
// A unit marks first-stage leaves always, and second-stage ones if it can
// (ECAP.SLADS) and is told to in the PASID entry. New leaves of a first
// stage are marked from the start, dirty if they are writable: Harvest them with
// clear once, invalidate, and begin. Leaves that are cut pass their marks on to
// all parts.
//
//gommu:nosleep
func (t *Table) Harvest(iova, size uint64, clear bool, b *Batch, f func(Access)) error {
	if err := t.refuse(opHarvest, iova, size, b); err != nil {
		return err
	}
	var err error
	if t.stage == FirstStage {
		_, err = change[firstFormat]{core: core[firstFormat]{t}, clear: clear}.run(opHarvest, iova, iova+size-1, b, f)
	} else {
		_, err = change[secondFormat]{core: core[secondFormat]{t}, clear: clear}.run(opHarvest, iova, iova+size-1, b, f)
	}
	return err
}

// Merge replaces each table in the range that is full of leaves which map
// adjacent memory alike by one superpage, where the table's options allow it and the
// memory is aligned, small pages first, and returns how many tables that were.
// One store replaces the link by the leaf, so a device notices nothing. Their
// frames go to b, which must be given. What a unit marks in the old leaves from then until the
// invalidation is lost.
//
//gommu:nosleep
func (t *Table) Merge(iova, size uint64, b *Batch) (int, error) {
	if err := t.refuse(opMerge, iova, size, b); err != nil {
		return 0, err
	}
	var n uint64
	var err error
	if t.stage == FirstStage {
		n, err = change[firstFormat]{core: core[firstFormat]{t}, merge: true}.run(opMerge, iova, iova+size-1, b, nil)
	} else {
		n, err = change[secondFormat]{core: core[secondFormat]{t}, merge: true}.run(opMerge, iova, iova+size-1, b, nil)
	}
	return int(n), err
}

// change is one Protect, Harvest or Merge on its way through the tables.
type change[F format] struct {
	core[F]
	prot  Prot // of Protect
	clear bool // of Harvest; its callback and the batch are passed along, so that they need not be on the heap
	merge bool
	n     uint64 // bytes for Protect, tables for Merge
}

func (c change[F]) protect(first, last uint64, b *Batch) (uint64, error) {
	if !allowed[F](c.prot) {
		//gommu:trust the error of a call that the caller got wrong
		return 0, &OpError{Op: opProtect, IOVA: first, Size: last - first + 1, Err: ErrProt}
	}
	if err := c.cut(first, last); err != nil {
		return 0, c.fail(opProtect, first, last, err)
	}
	return c.run(opProtect, first, last, b, nil)
}

func (c change[F]) run(op string, first, last uint64, b *Batch, harvest func(Access)) (uint64, error) {
	if c.orphans.head.Load() != 0 {
		c.adopt(b)
	}
	var p path
	level, err := c.enter(&p, first, last, 1)
	if err != nil {
		return 0, c.fail(op, first, last, err)
	}
	gone := c.pass(p[level].tbl, level, first, last, b, harvest)
	c.showLinks(first, level)
	c.leave(&p, level, first, gone+1, b)
	c.order()
	return c.n, nil
}

//gommu:refusal
func (c *change[F]) fail(op string, first, last uint64, err error) error {
	if err == respool.ErrEmpty {
		return errDryProtect // the only one that takes frames
	}
	return &OpError{Op: op, IOVA: first, Size: last - first + 1, Err: err}
}

// pass changes what [first, last] maps below tbl, which stays. It returns how
// many entries of tbl others have left for it to free.
func (c *change[F]) pass(tbl *[entries]uint64, level int, first, last uint64, b *Batch, harvest func(Access)) (gone int) {
	lo, hi := index(first, level), index(last, level)
	stored := false
	for i := lo; i <= hi; i++ {
		e := load(&tbl[i])
		at, end := clip(level, i, first, last)
		all := end-at == span(level)-1
		switch {
		case !present[F](e):
		case e.leaf(level):
			did, cut := c.leaf(&tbl[i], level, at, all, b, harvest)
			stored = stored || did
			if cut {
				i-- // others have cut it just now: the parts have its marks
			}
		case all: // the caller's alone
			if next := c.child(e); next != nil {
				c.pass(next, level-1, at, end, b, harvest)
				stored = c.merge && c.join(&tbl[i], next, level, at, b) || stored
			}
		default:
			next := c.lower(&tbl[i], level, 1)
			if next.tbl == nil {
				continue
			}
			stored = stored || !c.seen(e)
			n := c.pass(next.tbl, level-1, at, end, b, harvest)
			if c.mem.uses(next.bus).drop(n + 1) {
				gone += c.unlink(tbl, level, at, next.bus, b)
				stored = true
			}
		}
	}
	if stored {
		c.flush(tbl[lo : hi+1])
	}
	return gone
}

// leaf changes one leaf, the one at iova; all says that all of it is in the
// range. The unit may mark it at the same time. It says whether it stored, and
// whether there is no leaf any more.
func (c *change[F]) leaf(slot *uint64, level int, iova uint64, all bool, b *Batch, harvest func(Access)) (stored, gone bool) {
	if c.merge || harvest == nil && !all { // cut already, unless something else writes to the tables
		return false, false
	}
	for {
		e := load(slot)
		if !present[F](e) || !e.leaf(level) {
			return false, true
		}
		l := leafOf[F](e, iova, level)
		next := withProt[F](e, c.prot)
		if harvest != nil {
			if next = e; c.clear {
				next &^= usedBits[F]()
			}
		}
		pause()
		if next != e && !swap(slot, e, next) {
			continue
		}
		if next != e {
			b.touch(c.Table, l.IOVA, l.IOVA+(l.Size-1))
		}
		switch marks := e & usedBits[F](); {
		case harvest == nil:
			c.n += l.Size
		case marks != 0:
			harvest(Access{l, marks&accessed[F]() != 0, marks&dirty[F]() != 0})
		}
		return next != e, false
	}
}

// join replaces the link in slot, of level, to tbl by a superpage if tbl holds
// nothing else than parts of one. It says whether it did.
func (c *change[F]) join(slot *uint64, tbl *[entries]uint64, level int, iova uint64, b *Batch) bool {
	bus := load(slot).bus()
	u := c.mem.uses(bus)
	first := load(&tbl[0])
	if level > c.maxLeaf || isHeld(u.word.Load()) || u.uses() != entries || !first.leaf(level-1) || first.bus()&(span(level)-1) != 0 {
		return false
	}
	marks := first & usedBits[F]()
	for i := range tbl {
		e := load(&tbl[i])
		if e&^usedBits[F]() != first&^usedBits[F]()+pte(i)*pte(span(level-1)) {
			return false
		}
		marks |= e & usedBits[F]()
	}
	store(slot, first|marks|bitLeaf)
	c.unlinks.Add(1)
	u.end()
	b.frames.push(c.mem, Frame{bus})
	b.touch(c.Table, iova, iova+span(level)-1)
	c.n++
	return true
}

// dry is the ready-made error for a dry pool instead of err, or err.
func dry(err, made error) error {
	if err == respool.ErrEmpty {
		return made
	}
	return err
}

package pagetable

import "gommu/respool"

// Map lets the device reach size bytes at bus through iova. All three are
// multiples of 4096, the range lies within the table's address width, and
// nothing in it is mapped yet: Map never overwrites (ErrOverlap, with the
// lowest IOVA in the way). It uses the largest leaves that fit and that no held
// table (Hold) is in the way of. Map refuses bus
// addresses beyond 52 bits (ErrBusRange), but does not know the platform's host
// address width: the unit blocks DMA to an entry beyond that, as one with
// reserved bits set.
//
// Map is all or nothing. It looks for overlaps and takes every frame that it
// needs before it writes the first entry, so the unit sees nothing of a Map
// that fails and nothing has to be invalidated after it. When the pool is dry
// the error wraps respool.ErrEmpty.
//
// After Map returns the unit can walk the entries; one that reports caching
// mode (VT-d §6.1) or needs its write buffer flushed has to be told first. But
// while a batch with tables (Batch.Tables) is not invalidated yet, the unit may have
// the link to one of these cached, and walk that one instead of the new one in
// its place: it blocks DMA to what was mapped in it. Who maps near such an
// unmap, or at the same time, invalidates before the device uses the mapping.
//
// Map does not block and allocates nothing, except for the error of a refused
// call (a dry pool's error is ready-made). Its work is bounded by size.
//
//gommu:nosleep
func (t *Table) Map(iova, bus, size uint64, prot Prot) error {
	if tbl := t.pages(iova); tbl != nil && int(prot) < len(t.pageBits) && t.pageBits[prot] != 0 {
		e := bus | t.pageBits[prot]
		if size != FrameSize {
			if t.mapHeld(tbl, iova, bus, size, e) {
				return nil
			}
		} else if p := &tbl[iova/FrameSize%entries]; iova%FrameSize|bus&^addrMask == 0 && load(p) == 0 {
			pause()
			store(p, pte(e))
			if !t.coherent {
				t.flushNow(tbl[iova/FrameSize%entries:][:1])
			}
			return nil
		}
	}
	return t.mapAnywhere(iova, bus, size, prot)
}

// mapAnywhere is Map where no held table helps.
func (t *Table) mapAnywhere(iova, bus, size uint64, prot Prot) error {
	if t.stage == FirstStage {
		return core[firstFormat]{t}.mapOne(iova, bus, size, prot)
	}
	return core[secondFormat]{t}.mapOne(iova, bus, size, prot)
}

// MapExtents is Map for memory in pieces: they are mapped one after the other,
// the first at iova. It is all or nothing for all of them, and passes over the
// tables once. Pieces that follow each other on the bus are mapped as one.
//
//gommu:nosleep
func (t *Table) MapExtents(iova uint64, list []Extent, prot Prot) error {
	if t.stage == FirstStage {
		return core[firstFormat]{t}.mapExtents(iova, list, prot)
	}
	return core[secondFormat]{t}.mapExtents(iova, list, prot)
}

func (c core[F]) mapOne(iova, bus, size uint64, prot Prot) error {
	root, last := c.rootPtr.Load(), iova+size-1
	if root == nil || (iova|bus|size)%FrameSize != 0 || size == 0 || !c.translates(iova, last) ||
		(bus+size-1)>>busBits != 0 || bus>>busBits != 0 || !allowed[F](prot) {
		return c.refuseMap(iova, bus, size, prot, allowed[F](prot))
	}
	done, err := c.mapRun(root, iova, last, bus-iova, prot)
	if !done && err == nil {
		err = c.mapAll(iova, last, cursor{delta: bus - iova, end: last}, prot)
	}
	if err != nil {
		return c.mapError(iova, bus, size, err)
	}
	return nil
}

func (c core[F]) mapExtents(iova uint64, list []Extent, prot Prot) error {
	var size uint64
	for _, x := range list {
		next := size + x.Size
		if (x.Bus|x.Size)%FrameSize != 0 || x.Size == 0 || next < size || x.Bus>>busBits != 0 || x.Size > 1<<busBits-x.Bus {
			return c.refuseMap(iova, x.Bus, x.Size, prot, allowed[F](prot))
		}
		size = next
	}
	last := iova + size - 1
	if c.rootPtr.Load() == nil || iova%FrameSize != 0 || size == 0 || !c.translates(iova, last) || !allowed[F](prot) {
		return c.refuseMap(iova, 0, size, prot, allowed[F](prot))
	}
	run := cursor{rest: list}
	run.next(iova)
	if err := c.mapAll(iova, last, run, prot); err != nil {
		return c.mapError(iova, list[0].Bus, size, err)
	}
	return nil
}

// mapRun is the usual case: one run of leaves in a table that is there. It
// says whether that is the case.
func (c core[F]) mapRun(root *[entries]uint64, iova, last, delta uint64, prot Prot) (done bool, err error) {
	leaf := leafLevel(iova, iova+delta, c.maxLeaf)
	for {
		unlinks := c.unlinks.Load()
		tbl, bus, level := root, c.root.Bus, c.top
		for level > 0 {
			i := index(iova, level)
			if index(last, level) != i {
				break
			}
			e := load(&tbl[i])
			if !link[F](e, level) {
				break
			}
			next := c.child(e)
			if next == nil {
				return false, nil
			}
			pause()
			tbl, bus = next, e.bus()
			level--
		}
		if level > leaf || (iova|(last+1))&(span(level)-1) != 0 {
			return false, nil
		}
		run := tbl[index(iova, level) : index(last, level)+1]
		var inTheWay error
		if inUse(run) {
			inTheWay = c.inTheWay(run)
		}
		u := c.mem.uses(bus)
		w := u.word.Load()
		pause()
		switch {
		case c.unlinks.Load() != unlinks:
			continue
		case inTheWay != nil && level > 0 && c.holds.Load() > 0:
			return false, nil // held tables need not be in the way
		case inTheWay != nil:
			return false, inTheWay
		case !alive(w):
			return false, nil // the general case puts a new table in its place
		case !(level == 0 && isHeld(w)) && !u.add(w, len(run)):
			continue
		}
		fill(run, uint64(leafEntry[F](iova+delta, prot, level)), span(level))
		if !c.coherent {
			c.flush(run)
			c.showLinks(iova, level)
			c.order()
		}
		return true, nil
	}
}

// refuseMap says what is wrong with the arguments of a map.
//
//gommu:refusal
func (t *Table) refuseMap(iova, bus, size uint64, prot Prot, allowed bool) error {
	var err error
	switch {
	case t.rootPtr.Load() == nil:
		err = ErrClosed
	case size == 0:
		err = ErrZeroSize
	case (iova|bus|size)%FrameSize != 0:
		err = ErrMisaligned
	case !allowed:
		err = ErrProt
	case !t.translates(iova, iova+size-1):
		err = ErrRange
	default:
		err = ErrBusRange
	}
	return t.mapError(iova, bus, size, err)
}

// mapError wraps err, except for the one that is ready-made.
//
//gommu:refusal
func (t *Table) mapError(iova, bus, size uint64, err error) error {
	if err == respool.ErrEmpty {
		return errDryMap
	}
	e := &OpError{Op: opMap, IOVA: iova, Bus: bus, Size: size, Err: err}
	if err == ErrOverlap || err == ErrMarked {
		t.blame(e, 0)
	}
	return e
}

// blame says what is in the way of a call: the lowest leaf in an entry of at least level, or mark. If neither is
// there any more, the error stays what it is.
func (t *Table) blame(e *OpError, level int) {
	found := false
	e.At = e.IOVA
	for leaf := range t.leaves(e.IOVA, e.IOVA+e.Size-1) {
		if found = leaf.Size >= span(level); found {
			e.At, e.Err = max(leaf.IOVA, e.IOVA), ErrOverlap
			break
		}
	}
	if at, ok := t.markedAt(level, e.IOVA, e.Size); ok && (!found || at < e.At) {
		e.At, e.Err = at, ErrMarked
	}
}

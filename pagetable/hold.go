package pagetable

import "gommu/respool"

// Hold makes sure that the tables of the given level which translate size bytes
// at iova exist, and keeps them in the tree until Unhold, whatever is mapped in them or
// not. Tables of level 0 hold 4 KiB leaves, those of level 1 hold 2 MiB leaves and links
// to tables of level 0, and so on up to the one below the root. Both numbers are
// multiples of what one table of the level translates: 2 MiB for level 0, 1 GiB for
// level 1. What is mapped already stays. A superpage where a table must be is in the way
// (ErrOverlap, with its IOVA), and so is a mark there (ErrMarked).
//
// In held tables of level 0 a Map takes no frame, so that a dry pool cannot
// fail it, and uses 4 KiB leaves only; an Unmap leaves no table to its batch. Maps and unmaps
// within one such table are also the fastest there are.
//
// Hold is all or nothing, as Map is: when the pool is dry the error wraps
// respool.ErrEmpty. Holds of a table add up, at most 1023 (ErrHolds), and each needs its
// Unhold. A call for a part of the range that runs at the same time may see it
// held or not, and must not: it waits for Hold to return.
//
// Hold does not block and allocates nothing, except for the error of a refused
// call. Its work is bounded by the number of tables.
//
//gommu:nosleep
func (t *Table) Hold(iova, size uint64, level int) error {
	err := t.badHold(iova, size, level)
	if err != nil {
		return t.holdError(iova, size, level, err)
	}
	last := iova + size - 1
	if t.stage == FirstStage {
		err = core[firstFormat]{t}.hold(iova, last, level)
	} else {
		err = core[secondFormat]{t}.hold(iova, last, level)
	}
	if err != nil {
		return t.holdError(iova, size, level, err)
	}
	t.holds.Add(tablesOf(size, level))
	return nil
}

func (c core[F]) hold(first, last uint64, level int) error {
	r := request[F]{core: c, keep: level + 1}
	err := r.run(first, last)
	if err == nil && level == 0 && !c.marks {
		c.publish(first, last)
	}
	return err
}

// Unhold takes one hold of each table of the level away. Tables that are not used any
// more leave the tree as by Unmap: their frames go to b, which must be given, and
// b's range covers all that they could translate. If a table of the range is not held it fails
// with ErrNotHeld, and nothing has changed. Nobody else maps, unmaps or unholds a part of the
// range at the same time.
//
// Unhold does not block and allocates nothing, except for the error of a
// refused call. Its work is bounded by the number of tables.
//
//gommu:nosleep
func (t *Table) Unhold(iova, size uint64, level int, b *Batch) error {
	if err := t.badHold(iova, size, level); err != nil {
		return unholdError(iova, size, 0, err)
	}
	if err := t.refuse(opUnhold, iova, size, b); err != nil {
		return err
	}
	var at uint64
	var err error
	if t.stage == FirstStage {
		at, err = release[firstFormat]{core[firstFormat]{t}, level}.run(iova, iova+size-1, b)
	} else {
		at, err = release[secondFormat]{core[secondFormat]{t}, level}.run(iova, iova+size-1, b)
	}
	if err != nil {
		return unholdError(iova, size, at, err)
	}
	t.holds.Add(-tablesOf(size, level))
	return nil
}

// tablesOf is how many tables of level translate size bytes.
func tablesOf(size uint64, level int) int64 { return int64((size-1)>>shift(level+1)) + 1 }

// badHold says what is wrong with the range or the level of a call.
func (t *Table) badHold(iova, size uint64, level int) error {
	switch {
	case t.rootPtr.Load() == nil:
		return ErrClosed
	case level < 0 || level >= t.top:
		return ErrLevel
	case size == 0:
		return ErrZeroSize
	case (iova|size)&(span(level+1)-1) != 0:
		return ErrPartTable
	case !t.translates(iova, iova+size-1):
		return ErrRange
	}
	return nil
}

//gommu:refusal
func unholdError(iova, size, at uint64, err error) error {
	return &OpError{Op: opUnhold, IOVA: iova, Size: size, At: at, Err: err}
}

// holdError wraps err, except for the one that is ready-made.
//
//gommu:refusal
func (t *Table) holdError(iova, size uint64, level int, err error) error {
	if err == respool.ErrEmpty {
		return errDryHold
	}
	e := &OpError{Op: opHold, IOVA: iova, Size: size, Err: err}
	if err == ErrOverlap || err == ErrMarked {
		t.blame(e, level+1)
	}
	return e
}

// keeps says that the table at bus, of level, or one below it is held. It is in the caller's range.
func (c core[F]) keeps(bus uint64, level int) bool {
	if c.holds.Load() == 0 {
		return false
	}
	u, tbl := c.mem.uses(bus), c.mem.entries(bus)
	if tbl == nil || level == 0 || isHeld(u.word.Load()) {
		return tbl != nil && isHeld(u.word.Load())
	}
	for i := range tbl {
		if e := load(&tbl[i]); link[F](e, level) && c.keeps(e.bus(), level-1) {
			return true
		}
	}
	return false
}

// release is one Unhold on its way through the tables.
type release[F format] struct {
	core[F]
	level int
}

// run returns with an error the IOVA that it is about, if it knows one.
func (r release[F]) run(first, last uint64, b *Batch) (at uint64, err error) {
	if at, ok := r.held(first, last); !ok {
		return at, ErrNotHeld
	}
	if r.orphans.head.Load() != 0 {
		r.adopt(b)
	}
	var p path
	level, err := r.enter(&p, first, last, 1)
	if err != nil {
		return 0, err
	}
	gone := r.pass(p[level].tbl, level, first, last, b)
	r.leave(&p, level, first, gone+1, b)
	r.order()
	return 0, nil
}

// held looks whether all tables are held, or says which is not.
func (r release[F]) held(first, last uint64) (at uint64, ok bool) {
	for at = first; ; at += span(r.level + 1) {
		if w, _ := r.useAt(at, r.level); !isHeld(w) {
			return at, false
		}
		if whole(at, r.level+1) == last {
			return 0, true
		}
	}
}

// useAt is the use count of the table of level that translates iova, and where it is; or 0.
func (c core[F]) useAt(iova uint64, level int) (w, bus uint64) {
	for {
		unlinks := c.unlinks.Load()
		tbl := c.rootPtr.Load()
		bus = c.root.Bus
		for l := c.top; l > level && tbl != nil; l-- {
			e := load(&tbl[index(iova, l)])
			if tbl, bus = nil, e.bus(); link[F](e, l) {
				tbl = c.child(e)
			}
			pause()
		}
		if w = 0; tbl != nil {
			w = c.mem.uses(bus).word.Load()
		}
		if c.unlinks.Load() == unlinks {
			return w, bus
		}
	}
}

// pass takes the holds of the tables for [first, last] below tbl, which stays. It
// returns how many entries of tbl are free now.
func (r release[F]) pass(tbl *[entries]uint64, level int, first, last uint64, b *Batch) (gone int) {
	lo, hi := index(first, level), index(last, level)
	stored := false
	for i := lo; i <= hi; i++ {
		e := load(&tbl[i])
		at, end := clip(level, i, first, last)
		next, u := place{r.child(e), e.bus()}, r.mem.uses(e.bus())
		unused := false
		switch {
		case next.tbl == nil || !link[F](e, level): // something else writes to the tables
		case level-1 == r.level:
			unused = r.unhold(next, at)
		case end-at == span(level)-1:
			n := r.pass(next.tbl, level-1, at, end, b)
			unused = n > 0 && u.drop(n)
		default:
			if next = r.lower(&tbl[i], level, 1); next.tbl != nil {
				unused = u.drop(r.pass(next.tbl, level-1, at, end, b) + 1)
			}
		}
		if unused {
			gone += r.unlink(tbl, level, at, next.bus, b)
			b.touch(r.Table, at, end)
			stored = true
		}
	}
	if stored {
		r.flush(tbl[lo : hi+1])
	}
	return gone
}

// unhold takes a hold of a table away, and says whether that was its last use.
func (r release[F]) unhold(p place, iova uint64) (last bool) {
	u, n := r.mem.uses(p.bus), 0
	if r.level == 0 && holds(u.word.Load()) == 1 {
		r.conceal(iova)
		for i := range p.tbl {
			if present[F](load(&p.tbl[i])) {
				n++
			}
		}
	}
	return u.unhold(n)
}

package pagetable

// With Options.Marks an entry that goes out of use is not cleared but marked, until Unmark: the
// unit may have the old one cached, and what is mapped there before the flush may not be
// reached. A mark is not present, so the unit ignores all of it (VT-d specification §9.7, §9.8).
//
//	bits 56:12  an IOVA of the call that made it
//	bits 11:0   markBits
//
// An entry for a table that left the tree has the mark of the call that emptied the table. Its
// IOVA says which call that was, since others may be at work in the entry's range.
const (
	markBits = 0x550
	markIOVA = (1<<57 - 1) &^ (FrameSize - 1)
)

func markOf(iova uint64) pte { return pte(iova&markIOVA | markBits) }

func (e pte) mark() bool { return e&(FrameSize-1) == markBits }

// blank is what a call with iova in its range leaves of an entry.
func (t *Table) blank(iova uint64) pte {
	if t.marks {
		return markOf(iova)
	}
	return 0
}

// Unmark takes the marks away that Options.Marks had calls leave in size bytes at iova: the caller
// has invalidated what the batches of these calls say (Batch.Range). A table without marks ignores
// the call. Unmark does not block and allocates nothing, except for the error of a refused
// call. Its work is bounded by size and by the tables in the range.
//
//gommu:nosleep
func (t *Table) Unmark(iova, size uint64) error {
	var none Batch
	if err := t.refuse(opUnmark, iova, size, &none); err != nil || !t.marks {
		return err
	}
	if t.stage == FirstStage {
		return unmarkError(iova, size, core[firstFormat]{t}.unmark(iova, iova+size-1))
	}
	return unmarkError(iova, size, core[secondFormat]{t}.unmark(iova, iova+size-1))
}

// unmarkError wraps err, if it is one.
//
//gommu:refusal
func unmarkError(iova, size uint64, err error) error {
	if err != nil {
		return &OpError{Op: opUnmark, IOVA: iova, Size: size, Err: err}
	}
	return nil
}

func (c core[F]) unmark(first, last uint64) error {
	var p path
	level, err := c.enter(&p, first, last, 1)
	if err != nil {
		return err
	}
	gone := c.unmarkIn(p[level].tbl, level, first, last)
	if c.leave(&p, level, first, gone+1, nil) || gone > 0 {
		c.order()
	}
	return nil
}

// unmarkIn takes the marks of calls in [first, last] out of tbl, which stays, and of the
// tables below it. It returns how many entries of tbl others have left for it to free. What
// the unit sees of the entries it cleared is not present either way, so there is no flush.
func (c core[F]) unmarkIn(tbl *[entries]uint64, level int, first, last uint64) (gone int) {
	for i := index(first, level); i <= index(last, level); i++ {
		slot := &tbl[i]
		e := load(slot)
		at, end := clip(level, i, first, last)
		switch {
		case e == 0:
		case !present[F](e):
			if made := (uint64(e) - first) & markIOVA; e.mark() && made <= last-first {
				swap(slot, e, 0) // else another call has just made something else of it
			}
		case e.leaf(level):
		case end-at == span(level)-1: // the caller's alone
			if next := c.child(e); next != nil {
				c.unmarkIn(next, level-1, at, end)
			}
		default:
			next := c.lower(slot, level, 1)
			if next.tbl == nil {
				continue
			}
			if n := c.unmarkIn(next.tbl, level-1, at, end); c.mem.uses(next.bus).drop(n + 1) {
				gone += c.unlink(tbl, level, at, next.bus, nil)
				c.flush(tbl[i : i+1])
			}
		}
	}
	return gone
}

// used says whether any of words is a leaf or a link.
func (c core[F]) used(words []uint64) bool {
	if !c.marks {
		return inUse(words)
	}
	for i := range words {
		if present[F](load(&words[i])) {
			return true
		}
	}
	return false
}

// inTheWay says what is in the way of a call in words: the first one that is not zero.
func (c core[F]) inTheWay(words []uint64) error {
	return c.notFree(load(&words[skip(words)%len(words)]))
}

// notFree says what is wrong with an entry that is not zero, or was not a moment ago.
func (c core[F]) notFree(e pte) error {
	if c.marks && !present[F](e) {
		return ErrMarked
	}
	return ErrOverlap
}

// clear takes pages out of use, the one for iova and what follows. It returns how many there were.
func (c core[F]) clear(words []uint64, iova uint64) (gone int) {
	if !c.marks {
		return wipe(words)
	}
	for i := range words {
		if present[F](load(&words[i])) {
			store(&words[i], markOf(iova+uint64(i)*FrameSize))
			gone++
		}
	}
	return gone
}

// markLeaves is wipeLeaves with marks.
func (c core[F]) markLeaves(words []uint64, level int, iova uint64) (n, gone int) {
	for ; n < len(words); n++ {
		e := load(&words[n])
		if link[F](e, level) {
			break
		}
		if present[F](e) {
			store(&words[n], markOf(iova+uint64(n)*span(level)))
			gone++
		}
	}
	return n, gone
}

// lowestMark is the lowest IOVA of [first, last] for which the table of level that translates
// it, or one below, has a mark in an entry of at least lowest.
func (c core[F]) lowestMark(level, lowest int, first, last uint64) (at uint64, ok bool) {
	var words [entries]pte
	if _, _, ok := c.copyTable(&words, level, first); !ok {
		return 0, false
	}
	for i := index(first, level); i <= index(last, level); i++ {
		lo, hi := clip(level, i, first, last)
		switch e := words[i]; {
		case !present[F](e) && e.mark():
			return lo, true
		case link[F](e, level) && level > lowest:
			if at, ok = c.lowestMark(level-1, lowest, lo, hi); ok {
				return at, true
			}
		}
	}
	return 0, false
}

// markedAt is the lowest IOVA of the range with a mark in an entry of at least level.
func (t *Table) markedAt(level int, iova, size uint64) (at uint64, ok bool) {
	switch {
	case !t.marks:
		return 0, false
	case t.stage == FirstStage:
		return core[firstFormat]{t}.lowestMark(t.top, level, iova, iova+size-1)
	}
	return core[secondFormat]{t}.lowestMark(t.top, level, iova, iova+size-1)
}

package pagetable

// Unmap takes the translations of size bytes at iova out of the table and
// returns how many bytes were mapped there; holes are skipped. Both are
// multiples of 4096 within the table's address width. A range that begins or
// ends inside a superpage is refused with ErrPartial and changes nothing.
//
// The unit may use what it has cached of the range until the invalidation
// that covers it. So b, which must be given, gathers the range and the frames
// of tables that became empty; the caller invalidates what b says, then calls
// b.Release. Such tables leave the tree at once, whatever the range.
//
// Unmap does not block and allocates nothing, except for the error of a
// refused call. Its work is bounded by size and by the tables in the range.
//
//gommu:nosleep
func (t *Table) Unmap(iova, size uint64, b *Batch) (uint64, error) {
	root := t.rootPtr.Load()
	last := iova + size - 1
	if root == nil || (iova|size)%FrameSize != 0 || size == 0 || last < iova || last>>t.width != 0 ||
		b == nil || b.t != t && b.t != nil {
		return 0, t.refuseUnmap(iova, size, b)
	}

	// Go down to the lowest table that holds the whole range. path[level] is
	// the table of level passed on the way.
	var path [maxLevels]*[entries]uint64
	tbl, level := root, t.top
	for level > 0 {
		i := index(iova, level)
		if index(last, level) != i {
			break
		}
		e := load(&tbl[i])
		if e == 0 {
			return 0, nil
		}
		if e.leaf(level) || last-iova == span(level)-1 {
			break
		}
		next := t.child(e)
		if next == nil {
			return 0, t.unmapError(iova, size, 0, ErrCorrupt)
		}
		path[level], tbl = tbl, next
		level--
	}
	if level > 0 {
		if at, cut := t.cutsLeaf(iova, last); cut {
			return 0, t.unmapError(iova, size, at, ErrPartial)
		}
	}

	removed, bytes := t.remove(tbl, level, iova, last, b)
	for level++; removed > 0 && level <= t.top; level++ {
		i := index(iova, level)
		removed = t.uncount(path[level], i, removed, b)
		if removed > 0 {
			t.flush(path[level][i : i+1])
		}
	}
	if bytes > 0 {
		t.order()
	}
	return bytes, nil
}

// cutsLeaf says whether [iova, last] begins or ends inside a leaf, and where
// that leaf begins.
func (t *Table) cutsLeaf(iova, last uint64) (at uint64, cut bool) {
	if l, ok := t.find(iova); ok && l.IOVA != iova {
		return l.IOVA, true
	}
	if l, ok := t.find(last); ok && l.IOVA+(l.Size-1) != last {
		return l.IOVA, true
	}
	return 0, false
}

// remove clears what [iova, last] maps below tbl. It returns how many entries
// of tbl it cleared and how many bytes they and the ones below mapped.
func (t *Table) remove(tbl *[entries]uint64, level int, iova, last uint64, b *Batch) (removed int, bytes uint64) {
	lo, hi := index(iova, level), index(last, level)
	for i := lo; i <= hi; {
		e := load(&tbl[i])
		first, end := clip(level, i, iova, last)
		n := 1 // entries dealt with in this turn
		switch {
		case e == 0:
			n = skip(tbl[i : hi+1])
		case level == 0:
			n = hi + 1 - i
			gone := wipe(tbl[i : hi+1])
			removed += gone
			bytes += uint64(gone) * span(0)
			b.touch(t, first, last)
		case e.leaf(level):
			n = leafRun(tbl[i:hi+1], level)
			wipe(tbl[i : i+n])
			removed += n
			bytes += uint64(n) * span(level)
			b.touch(t, first, first+uint64(n)*span(level)-1)
		case end-first == span(level)-1:
			// All of the table goes. It is not worth clearing: nothing is
			// reused before the invalidation, which ends every use of it.
			store(&tbl[i], 0)
			t.unlinks.Add(1)
			removed++
			bytes += t.collect(&b.frames, Frame{e.bus()}, level-1, e.used())
			b.touch(t, first, end)
		default:
			if next := t.child(e); next != nil {
				gone, size := t.remove(next, level-1, first, end, b)
				removed += t.uncount(tbl, i, gone, b)
				bytes += size
			}
		}
		i += n
	}
	if removed > 0 {
		t.flush(tbl[lo : hi+1])
	}
	return removed, bytes
}

// leafRun is the number of leaves at the start of words, which are of a level
// above 0.
func leafRun(words []uint64, level int) int {
	for i := range words {
		if e := load(&words[i]); e == 0 || !e.leaf(level) {
			return i
		}
	}
	return len(words)
}

// skip is the number of empty entries at the start of words.
func skip(words []uint64) int {
	for i := range words {
		if load(&words[i]) != 0 {
			return i
		}
	}
	return len(words)
}

// uncount notes in entry i of tbl that the table which it points to has gone
// entries less in use. If none is left the table leaves the tree; uncount
// returns 1 then, for the entry of tbl that is free now, else 0.
func (t *Table) uncount(tbl *[entries]uint64, i, gone int, b *Batch) int {
	e := load(&tbl[i])
	if e.used() > gone {
		if gone > 0 {
			store(&tbl[i], e-pte(gone)*countOne)
		}
		return 0
	}
	store(&tbl[i], 0)
	t.unlinks.Add(1)
	b.frames.push(t.mem, Frame{e.bus()})
	return 1
}

// collect pushes the table at f, of which used entries are in use, and all
// tables below it. It returns the bytes that they map. The unit may still
// read them; it cannot reach the table from the root any more.
func (t *Table) collect(l *frameList, f Frame, level, used int) (bytes uint64) {
	tbl := t.mem.entries(f.Bus)
	if tbl == nil {
		return 0
	}
	if level == 0 {
		bytes = uint64(used) * span(0)
	} else {
		for i := range tbl {
			switch e := load(&tbl[i]); {
			case e == 0:
			case e.leaf(level):
				bytes += span(level)
			default:
				bytes += t.collect(l, Frame{e.bus()}, level-1, e.used())
			}
		}
	}
	l.push(t.mem, f)
	return bytes
}

// refuseUnmap says what is wrong with the arguments of Unmap.
func (t *Table) refuseUnmap(iova, size uint64, b *Batch) error {
	var err error
	switch {
	case t.rootPtr.Load() == nil:
		err = ErrClosed
	case size == 0:
		err = ErrZeroSize
	case (iova|size)%FrameSize != 0:
		err = ErrMisaligned
	case t.beyond(iova, size):
		err = ErrRange
	default:
		err = ErrBatch
	}
	return t.unmapError(iova, size, 0, err)
}

func (t *Table) unmapError(iova, size, at uint64, err error) error {
	return &OpError{Op: opUnmap, IOVA: iova, Size: size, At: at, Err: err}
}

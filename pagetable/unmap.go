package pagetable

// Unmap takes the translations of size bytes at iova out of the table and
// returns how many bytes were mapped there; holes are skipped. Both are
// multiples of 4096 and the range lies within the table's address width. A
// superpage that the range begins or ends in is cut first, in place: one store
// replaces the leaf by a link to a table that maps the same, so that a device
// that uses the rest notices nothing. That takes frames, at most four. If
// the pool is dry the error wraps respool.ErrEmpty and nothing has changed; an Unmap
// that cuts nothing needs no frames and cannot fail so.
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
	if tbl := t.pages(iova); tbl != nil && b != nil && (b.t == t || b.t == nil) {
		if size == FrameSize && iova%FrameSize == 0 {
			p := &tbl[iova/FrameSize%entries]
			pause()
			if load(p) == 0 {
				return 0, nil
			}
			store(p, 0)
			if !t.coherent {
				t.flushNow(tbl[iova/FrameSize%entries:][:1])
			}
			b.touch(t, iova, iova+(FrameSize-1))
			return FrameSize, nil
		}
		if bytes, ok := t.unmapHeld(tbl, iova, size, b); ok {
			return bytes, nil
		}
	}
	return t.UnmapEach(iova, size, b, nil)
}

// UnmapEach is Unmap, and calls f for the memory that was mapped: in the order
// of IOVAs, once for each run that is contiguous there and on the bus. f must not
// use the table.
//
//gommu:nosleep
func (t *Table) UnmapEach(iova, size uint64, b *Batch, f func(iova, bus, size uint64)) (uint64, error) {
	if err := t.refuse(opUnmap, iova, size, b); err != nil {
		return 0, err
	}
	if t.stage == FirstStage {
		return core[firstFormat]{t}.unmap(iova, iova+size-1, b, f)
	}
	return core[secondFormat]{t}.unmap(iova, iova+size-1, b, f)
}

// refuse says what is wrong with the range or the batch of a call.
func (t *Table) refuse(op string, iova, size uint64, b *Batch) error {
	if t.rootPtr.Load() != nil && (iova|size)%FrameSize == 0 && size != 0 && t.translates(iova, iova+size-1) &&
		b != nil && (b.t == t || b.t == nil) {
		return nil
	}
	var err error
	switch {
	case t.rootPtr.Load() == nil:
		err = ErrClosed
	case size == 0:
		err = ErrZeroSize
	case (iova|size)%FrameSize != 0:
		err = ErrMisaligned
	case !t.translates(iova, iova+size-1):
		err = ErrRange
	default:
		err = ErrBatch
	}
	//gommu:trust the error of a call that the caller got wrong
	return &OpError{Op: op, IOVA: iova, Size: size, Err: err}
}

func (c core[F]) unmap(first, last uint64, b *Batch, f func(iova, bus, size uint64)) (uint64, error) {
	// Who holds tables relies on it that an Unmap there leaves none to its batch; his next Unhold takes the orphans.
	if c.orphans.head.Load() != 0 && c.holds.Load() == 0 {
		c.adopt(b)
	}
	if f == nil {
		if bytes, done := c.unmapPages(first, last, b); done {
			return bytes, nil
		}
	}
	r := removal[F]{core: c}
	var out *reporter
	if f != nil {
		out = &reporter{f: f}
	}
	var err error
	if !r.run(first, last, b, out) {
		err = r.edges(first, last, b, out)
	}
	if err != nil {
		if err = dry(err, errDryUnmap); err != errDryUnmap {
			//gommu:trust the error of tables that others have written to, or of a closed pool
			err = &OpError{Op: opUnmap, IOVA: first, Size: last - first + 1, Err: err}
		}
		return 0, err
	}
	c.order() // even if nothing was mapped: tables that others emptied may have been unlinked
	if out != nil {
		out.tell()
	}
	return r.bytes, nil
}

// unmapPages is the usual case: pages of one table. It says whether that is the
// case. What the table maps for the caller keeps it until drop, if it is not held.
func (c core[F]) unmapPages(first, last uint64, b *Batch) (bytes uint64, done bool) {
	for {
		unlinks := c.unlinks.Load()
		tbl, bus := c.rootPtr.Load(), c.root.Bus
		for level := c.top; level > 0; level-- {
			i := index(first, level)
			e := load(&tbl[i])
			if index(last, level) != i || !link[F](e, level) || last-first == span(level)-1 {
				return 0, false
			}
			next := c.child(e)
			if next == nil {
				return 0, false
			}
			pause()
			tbl, bus = next, e.bus()
		}
		run := tbl[index(first, 0) : index(last, 0)+1]
		used := c.used(run)
		u := c.mem.uses(bus)
		w := u.word.Load()
		pause()
		if c.unlinks.Load() != unlinks {
			continue
		}
		if !used {
			return 0, true
		}
		gone := c.clear(run, first)
		b.touch(c.Table, first, last)
		if !c.coherent {
			c.flush(run)
			c.showLinks(first, 0)
		}
		if !isHeld(w) && u.drop(gone) {
			c.prune(bus, first, b)
		}
		c.order()
		return uint64(gone) * span(0), true
	}
}

// prune takes the dead table of pages at bus out of the tree, and those above
// it that become empty. While it is linked those above it stay; if another
// goroutine has put a table in its place already, they may be gone as well.
func (c core[F]) prune(bus, iova uint64, b *Batch) {
	var p path
	p[c.top] = place{c.rootPtr.Load(), c.root.Bus}
	for level := c.top; level > 1; level-- {
		e := load(&p[level].tbl[index(iova, level)])
		next := c.child(e)
		if !link[F](e, level) || next == nil {
			c.retire(bus, iova, b)
			return
		}
		p[level-1] = place{next, e.bus()}
	}
	n := c.unlink(p[1].tbl, 1, iova, bus, b)
	i := index(iova, 1)
	c.flush(p[1].tbl[i : i+1])
	c.leave(&p, 1, iova, n, b)
}

// removal is one Unmap on its way through the tables. Its batch is passed along, not a part
// of it, so that it need not be on the heap.
type removal[F format] struct {
	core[F]
	bytes uint64
}

// reporter tells f what was mapped. It is not a part of removal either.
type reporter struct {
	//gommu:nosleep
	f     func(iova, bus, size uint64)
	found Leaf // what is to be reported next, as one
}

// run is the simple case: every entry of one table that translates a part of the range is
// in it as a whole, so nobody else uses these entries. It says whether that is
// the case. An entry of the caller's keeps the table until leave.
func (r *removal[F]) run(first, last uint64, b *Batch, out *reporter) (done bool) {
	var p path
	for {
		unlinks := r.unlinks.Load()
		level := r.top
		p[level] = place{r.rootPtr.Load(), r.root.Bus}
		for level > 0 {
			i := index(first, level)
			e := load(&p[level].tbl[i])
			if index(last, level) != i || !link[F](e, level) || last-first == span(level)-1 {
				break
			}
			next := r.child(e)
			if next == nil {
				return false
			}
			pause()
			level--
			p[level] = place{next, e.bus()}
		}
		tbl, lo, hi := p[level].tbl, index(first, level), index(last, level)
		used := r.used(tbl[lo : hi+1])
		pause()
		switch {
		case r.unlinks.Load() != unlinks:
			continue
		case !used:
			return true
		case (first|(last+1))&(span(level)-1) != 0:
			return false
		}
		gone := r.remove(p[level], level, first, last, b, out)
		r.showLinks(first, level)
		r.leave(&p, level, first, gone, b)
		return true
	}
}

// edges is the other case: tables at the ends of the range may be shared, and
// superpages be cut.
func (r *removal[F]) edges(first, last uint64, b *Batch, out *reporter) error {
	if err := r.cut(first, last); err != nil {
		return err
	}
	var p path
	level, err := r.enter(&p, first, last, 1)
	if err != nil {
		return err
	}
	gone := r.remove(p[level], level, first, last, b, out)
	r.showLinks(first, level)
	r.leave(&p, level, first, gone+1, b)
	return nil
}

// remove clears what [first, last] maps below a table that stays. It returns how
// many of its uses that frees.
func (r *removal[F]) remove(p place, level int, first, last uint64, b *Batch, out *reporter) (gone int) {
	tbl, lo, hi := p.tbl, index(first, level), index(last, level)
	if level == 0 {
		gone = r.wipe(tbl[lo:hi+1], first, b, out)
		if gone > 0 {
			r.flush(tbl[lo : hi+1])
		}
		if isHeld(r.mem.uses(p.bus).word.Load()) {
			return 0
		}
		return gone
	}
	stored := false
	for i := lo; i <= hi; {
		e := load(&tbl[i])
		at, end := clip(level, i, first, last)
		n := 1 // entries dealt with in this turn
		switch all := end-at == span(level)-1; {
		case !present[F](e):
			n = max(skip(tbl[i:hi+1]), 1)
		case e.leaf(level) && all:
			n = int((last - at + 1) >> shift(level)) // whole in the range
			passed, wiped := r.wipeLeaves(tbl[i:i+n], level, at, b, out)
			n, gone = passed, gone+wiped
		case e.leaf(level): // cut already, unless something else writes to the tables
		case all && r.keeps(e.bus(), level-1):
			next := place{r.child(e), e.bus()}
			if k := r.remove(next, level-1, at, end, b, out); k > 0 {
				r.mem.uses(next.bus).drop(k) // not the last
			}
		case all:
			// All of the table goes. It is not worth clearing: nothing is
			// reused before the invalidation, which ends every use of it.
			store(&tbl[i], r.blank(at))
			r.unlinks.Add(1)
			gone++
			r.take(e.bus(), level-1, at, b, out)
			b.touch(r.Table, at, end)
		default:
			if next := r.lower(&tbl[i], level, 1); next.tbl != nil {
				stored = stored || !r.seen(e)
				n := r.remove(next, level-1, at, end, b, out)
				if r.mem.uses(next.bus).drop(n + 1) {
					gone += r.unlink(tbl, level, at, next.bus, b)
					stored = true
				}
			}
		}
		i += n
	}
	if gone > 0 || stored {
		r.flush(tbl[lo : hi+1])
	}
	return gone
}

// wipe clears a run of 4 KiB leaves and holes that translates at and what follows. It
// returns how many there were.
func (r *removal[F]) wipe(words []uint64, at uint64, b *Batch, out *reporter) (gone int) {
	if out != nil {
		note[F](out, words, 0, at)
	}
	if gone = r.clear(words, at); gone > 0 {
		r.bytes += uint64(gone) * span(0)
		b.touch(r.Table, at, at+uint64(len(words))*span(0)-1)
	}
	return gone
}

// wipeLeaves clears superpages up to the first link. It returns how many
// entries it passed, and how many of them were in use.
func (r *removal[F]) wipeLeaves(words []uint64, level int, at uint64, b *Batch, out *reporter) (n, gone int) {
	if out != nil {
		words = words[:leafRun[F](words)]
		note[F](out, words, level, at)
	}
	if r.marks {
		n, gone = r.markLeaves(words, level, at)
	} else {
		n, gone = wipeLeaves(words)
	}
	r.bytes += uint64(gone) * span(level)
	b.touch(r.Table, at, at+uint64(n)*span(level)-1)
	return n, gone
}

// take pushes the table at bus, which is for iova and what follows, and all
// tables below it. Nobody else can reach them; the unit may still read them.
func (r *removal[F]) take(bus uint64, level int, iova uint64, b *Batch, out *reporter) {
	tbl := r.mem.entries(bus)
	if tbl == nil {
		return
	}
	u := r.mem.uses(bus)
	if level == 0 {
		r.bytes += uint64(u.uses()) * span(0)
		if out != nil {
			note[F](out, tbl[:], 0, iova)
		}
	} else {
		for i := range tbl {
			at := iova + uint64(i)*span(level)
			switch e := load(&tbl[i]); {
			case !present[F](e):
			case e.leaf(level):
				r.bytes += span(level)
				if out != nil {
					note[F](out, tbl[i:i+1], level, at)
				}
			default:
				r.take(e.bus(), level-1, at, b, out)
			}
		}
	}
	u.end()
	b.frames.push(r.mem, Frame{bus})
}

// note reports the leaves among words; what is contiguous, as one.
func note[F format](out *reporter, words []uint64, level int, at uint64) {
	for i := range words {
		e := load(&words[i])
		if !present[F](e) {
			continue
		}
		l := leafOf[F](e, at+uint64(i)*span(level), level)
		if f := &out.found; f.Size > 0 && f.IOVA+f.Size == l.IOVA && f.Bus+f.Size == l.Bus {
			f.Size += l.Size
			continue
		}
		out.tell()
		out.found = l
	}
}

// tell hands out what note has gathered.
func (r *reporter) tell() {
	if r.found.Size > 0 {
		r.f(r.found.IOVA, r.found.Bus, r.found.Size)
	}
}

// leafRun is the number of leaves and holes at the start of words, which are
// of a level above 0.
func leafRun[F format](words []uint64) int {
	for i := range words {
		if e := load(&words[i]); link[F](e, 1) {
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

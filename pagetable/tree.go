package pagetable

// path is the way from the root to a table: the tables passed, by level.
type path [maxLevels]place

// place is a table and where the unit sees it.
type place struct {
	tbl *[entries]uint64
	bus uint64
}

// enter finds the lowest table that has entries for all of [first, last], but
// not one for them alone, and adds uses to it: n, or for n = 0 one for each
// entry that translates a part of the range. So the table stays until leave,
// and with it those above.
func (c core[F]) enter(p *path, first, last uint64, n int) (level int, err error) {
	for {
		unlinks := c.unlinks.Load()
		level = c.top
		p[level] = place{c.rootPtr.Load(), c.root.Bus}
		for level > 0 {
			i := index(first, level)
			e := load(&p[level].tbl[i])
			if index(last, level) != i || !link[F](e, level) || last-first == span(level)-1 {
				break
			}
			next := c.child(e)
			if next == nil {
				if c.unlinks.Load() == unlinks {
					return 0, ErrCorrupt
				}
				break
			}
			if !alive(c.mem.uses(e.bus()).word.Load()) {
				break // as good as gone
			}
			pause()
			level--
			p[level] = place{next, e.bus()}
		}
		u := c.mem.uses(p[level].bus)
		w := u.word.Load()
		if c.unlinks.Load() != unlinks || !alive(w) && level < c.top {
			continue
		}
		k := n
		if n == 0 {
			k = index(last, level) - index(first, level) + 1
		}
		if u.add(w, k) {
			return level, nil
		}
	}
}

// lower adds n uses to the table that slot points to, an entry at level of a
// table that stays. It returns nil if there is no such table, or a dead one.
func (c core[F]) lower(slot *uint64, level, n int) (next place) {
	for {
		e := load(slot)
		if !link[F](e, level) {
			return place{}
		}
		next = place{c.child(e), e.bus()}
		if next.tbl == nil {
			return place{}
		}
		u := c.mem.uses(next.bus)
		pause()
		w := u.word.Load()
		pause()
		if again := load(slot); !link[F](again, level) || again.bus() != next.bus {
			continue // w may be of another life
		}
		if !alive(w) {
			return place{}
		}
		if u.add(w, n) {
			return next
		}
	}
}

// leave gives up n uses of the table of level on the way to iova. If they were
// the last the table leaves the tree, and so may those above it. The frames go
// to b, or without a batch to the orphans. It says whether one has left.
func (c core[F]) leave(p *path, level int, iova uint64, n int, b *Batch) (left bool) {
	for n > 0 && c.mem.uses(p[level].bus).drop(n) && level < c.top {
		level++
		n = c.unlink(p[level].tbl, level, iova, p[level-1].bus, b)
		i := index(iova, level)
		c.flush(p[level].tbl[i : i+1])
		left = true
	}
	return left
}

// unlink takes the dead table at bus out of the tree: the entry for iova in
// tbl, of level, points to it. It returns 1 if that made the entry free, 0 if another
// goroutine has put a table of its own in the place already. Either way the caller
// flushes the entry: the other may not have come to that yet.
func (c core[F]) unlink(tbl *[entries]uint64, level int, iova, bus uint64, b *Batch) (freed int) {
	i := index(iova, level)
	for {
		pause()
		e := load(&tbl[i])
		if !link[F](e, level) || e.bus() != bus {
			break
		}
		if swap(&tbl[i], e, c.blank(iova)) {
			freed = 1
			break
		}
	}
	c.retire(bus, iova, b)
	return freed
}

// retire hands the frame of an unlinked table, which was on the way to iova, to
// b, or without a batch to the orphans. If others still rely on the table being
// dead, the last of them does; b asks for the invalidation all the same.
func (t *Table) retire(bus, iova uint64, b *Batch) {
	pause()
	t.unlinks.Add(1)
	last := t.mem.uses(bus).letGo()
	switch {
	case b == nil && last:
		t.orphan(bus, iova)
	case b == nil:
	case last:
		b.frames.push(t.mem, Frame{bus})
		b.touch(t, iova, iova|(FrameSize-1))
	default:
		b.elsewhere++
		b.touch(t, iova, iova|(FrameSize-1))
	}
}

// orphan keeps the frame of an unlinked table for the next batch.
func (t *Table) orphan(bus, iova uint64) {
	store(&t.mem.entries(bus)[1], pte(iova&^(FrameSize-1)))
	t.orphans.push(t.mem, Frame{bus})
}

// adopt moves the orphans to b.
func (t *Table) adopt(b *Batch) {
	for l := t.orphans.all(t.mem); l.n > 0; {
		f, words := l.pop(t.mem)
		if words == nil {
			return
		}
		iova := uint64(load(&words[1]))
		b.frames.push(t.mem, f)
		b.touch(t, iova, iova|(FrameSize-1))
	}
}

// showLinks flushes the links on the way to the table of level that translates
// iova, unless whoever made them has. The caller has uses of the table.
func (c core[F]) showLinks(iova uint64, level int) {
	if c.coherent || leftOut() {
		return
	}
	tbl := c.rootPtr.Load()
	for l := c.top; l > level; l-- {
		i := index(iova, l)
		e := load(&tbl[i])
		next := c.child(e)
		if next == nil {
			return
		}
		if !c.seen(e) {
			c.flush(tbl[i : i+1])
		}
		tbl = next
	}
}

// seen says that the link e, to a table that stays, is in memory. If not, who
// made it has not come to the flush yet, and who relies on it flushes it too.
func (c core[F]) seen(e pte) bool {
	return c.coherent || c.mem.uses(e.bus()).word.Load()&linkSeen != 0
}

package pagetable

// request is one map or one hold on its way through the tables.
//
// Only a table at either end of the range can be shared with other goroutines,
// at most two of a level: what lies wholly in the range is the caller's. plan adds
// to each of them the uses that the map may need, so all of them stay, takes
// the frames, and then nothing can fail. What was added too much is dropped in
// the end.
type request[F format] struct {
	core[F]
	cursor
	prot Prot
	keep int // the level of the tables to be held, plus 1; 0 for a map

	need  int  // tables to be made
	among bool // held tables lie where superpages would fit
	spare frameList

	path  path // to the lowest table that has the whole range, held[0]
	held  [2*maxLevels - 1]hold
	holds int

	// fresh are tables that others may share, and whose links are not
	// flushed yet.
	fresh  [2]*useCount
	freshN int
}

// hold is a table that stays because the request has uses of it.
type hold struct {
	place
	level  int
	iova   uint64 // one that it translates
	self   int    // where in held it is
	parent int    // in held
	extra  int    // uses that no entry has yet
}

// mapAll maps [first, last], which what the cursor reads fills exactly.
func (c core[F]) mapAll(first, last uint64, start cursor, prot Prot) error {
	r := request[F]{core: c, prot: prot, cursor: start}
	return r.run(first, last)
}

func (r *request[F]) run(first, last uint64) error {
	c, start := r.core, r.cursor
	level, err := c.enter(&r.path, first, last, 0)
	if err != nil {
		return err
	}
	r.holds = 1
	r.held[0] = hold{place: r.path[level], level: level, iova: first, extra: index(last, level) - index(first, level) + 1}
	if err = r.plan(r.held[0].tbl, 0, level, first, last); err == nil && r.need > 0 {
		r.spare, err = c.take(r.need)
	}
	if err != nil {
		r.abandon()
		return err
	}
	r.cursor = start
	pause()
	r.write(&r.held[0], first, last)
	c.showLinks(first, level)
	c.order()
	for _, u := range r.fresh[:r.freshN] {
		u.word.Or(linkSeen)
	}
	for _, h := range r.held[:r.holds] {
		if h.extra > 0 {
			c.mem.uses(h.bus).drop(h.extra)
		}
	}
	// What others made first is not needed. A refusal is Close's to tell.
	_ = c.putBack(&r.spare)
	return nil
}

// abandon gives up what was held for a map that fails. Others may have given
// up theirs meanwhile: then tables leave the tree here.
func (r *request[F]) abandon() {
	for r.holds--; r.holds > 0; r.holds-- {
		h := &r.held[r.holds]
		if r.mem.uses(h.bus).drop(h.extra) {
			parent := &r.held[h.parent]
			parent.extra += r.unlink(parent.tbl, parent.level, h.iova, h.bus, nil)
			i := index(h.iova, parent.level)
			r.flush(parent.tbl[i : i+1])
		}
	}
	h := &r.held[0]
	r.leave(&r.path, h.level, h.iova, h.extra, nil)
	r.order()
}

// plan checks that nothing is in the way in [first, last] below tbl, and adds to
// need the tables that are missing there. A nil tbl is one of these; another
// is in held, or the caller's alone.
func (r *request[F]) plan(tbl *[entries]uint64, held, level int, first, last uint64) error {
	if tbl == nil {
		r.need++
	}
	switch level {
	case r.keep - 1:
		return nil
	case 0:
		if tbl != nil && inUse(tbl[index(first, 0):index(last, 0)+1]) {
			return r.inTheWay(tbl[index(first, 0) : index(last, 0)+1])
		}
		return nil
	}
	for at := first; ; {
		r.seek(at)
		i := index(at, level)
		n := r.room(level, at, last)
		if n > 0 && tbl != nil && inUse(tbl[i:i+n]) {
			n = skip(tbl[i : i+n])
		}
		if n > 0 {
			if at += uint64(n) << shift(level); at-1 == last {
				return nil
			}
			continue
		}
		end := min(whole(at, level), last)
		var next *[entries]uint64
		below := 0
		if tbl != nil {
			var err error
			if next, below, err = r.reach(tbl, held, level, at, end); err != nil {
				return err
			}
		}
		if err := r.plan(next, below, level-1, at, end); err != nil {
			return err
		}
		if end == last {
			return nil
		}
		at = end + 1
	}
}

// room is how many leaves of level the request can make from at on, one after the other.
func (r *request[F]) room(level int, at, last uint64) int {
	if r.keep > 0 {
		return 0
	}
	return r.leaves(level, r.maxLeaf, at, last)
}

// reach holds the table below tbl that is for [first, last], if it is not the
// caller's alone. It returns nil if the table is missing.
func (r *request[F]) reach(tbl *[entries]uint64, held, level int, first, last uint64) (*[entries]uint64, int, error) {
	slot := &tbl[index(first, level)]
	n := index(last, level-1) - index(first, level-1) + 1
	e := load(slot)
	switch {
	case e == 0:
		return nil, 0, nil
	case !link[F](e, level):
		return nil, 0, r.notFree(e)
	case r.child(e) == nil:
		return nil, 0, ErrCorrupt
	case last-first == span(level)-1:
		return r.child(e), 0, r.fits(e.bus(), level-1)
	case r.holds == len(r.held):
		return nil, 0, ErrOverlap
	}
	next := r.lower(slot, level, n)
	if next.tbl == nil {
		return nil, 0, nil
	}
	r.held[r.holds] = hold{place: next, level: level - 1, iova: first, self: r.holds, parent: held, extra: n}
	r.holds++
	return next.tbl, r.holds - 1, nil
}

// fits says what is wrong with a table in the range that is the caller's alone: for
// a map, that it is there, unless it or one below it is held.
func (r *request[F]) fits(bus uint64, level int) error {
	switch {
	case r.keep == level+1 && holds(r.mem.uses(bus).word.Load()) == maxHolds:
		return ErrHolds
	case r.keep > 0:
		return nil
	case r.keeps(bus, level):
		r.among = true
		return nil
	}
	return ErrOverlap
}

// write maps [first, last] in a table that the unit can reach.
func (r *request[F]) write(h *hold, first, last uint64) {
	level, stored, counted := h.level, false, 1
	switch {
	case level == r.keep-1:
		r.mem.uses(h.bus).hold(level == 0)
		return
	case level == 0 && isHeld(r.mem.uses(h.bus).word.Load()):
		counted = 0
	}
	for at := first; ; {
		r.seek(at)
		i := index(at, level)
		n := r.room(level, at, last)
		if r.among && level > 0 {
			n = skip(h.tbl[i : i+n])
		}
		if n > 0 {
			fill(h.tbl[i:i+n], uint64(leafEntry[F](at+r.delta, r.prot, level)), span(level))
			h.extra -= n * counted
			stored = true
			if at += uint64(n) << shift(level); at-1 == last {
				break
			}
			continue
		}
		end := min(whole(at, level), last)
		if r.link(h, i, at, end) {
			stored = true
		}
		if end == last {
			break
		}
		at = end + 1
	}
	if stored {
		r.flush(h.tbl[index(first, level) : index(last, level)+1])
	}
}

// link maps [first, last] below entry i of a held table: in the table that it
// points to, or in a new one. It says whether the entry needs a flush.
func (r *request[F]) link(h *hold, i int, first, last uint64) (flush bool) {
	slot, shared := &h.tbl[i], last-first != span(h.level)-1
	for {
		e := load(slot)
		if !shared && present[F](e) {
			r.within(e, h.level-1, first, last)
			return false
		}
		var dead *useCount // what e points to: not used again while it is claimed
		if shared && present[F](e) {
			below := r.holding(e)
			if below < 0 {
				_, below, _ = r.reach(h.tbl, h.self, h.level, first, last)
			}
			if below > 0 {
				r.write(&r.held[below], first, last)
				return !r.seen(load(slot)) // others may have replaced e, but not since it is held
			}
			if dead = r.mem.uses(e.bus()); dead != nil && !dead.claim() {
				continue // gone already
			}
		}
		flush, done := r.install(slot, e, h, first, last)
		if dead != nil && dead.letGo() {
			r.orphan(e.bus(), first)
		}
		if done {
			return flush
		}
	}
}

// within maps [first, last] in the table that e points to, which is the caller's alone.
func (r *request[F]) within(e pte, level int, first, last uint64) {
	h := hold{place: place{r.child(e), e.bus()}, level: level, iova: first}
	if h.tbl == nil {
		return
	}
	if r.write(&h, first, last); h.extra < 0 {
		r.mem.uses(h.bus).word.Add(uint64(-h.extra))
	}
}

// install maps [first, last] in a new table and replaces e, in a slot of h, by the
// link to it. It is not done if the slot has changed.
func (r *request[F]) install(slot *uint64, e pte, h *hold, first, last uint64) (flush, done bool) {
	start, shared := r.cursor, last-first != span(h.level)-1
	bus, used := r.build(h.level-1, first, last)
	if used == 0 {
		return false, true
	}
	u := r.mem.uses(bus)
	u.start(used, !shared)
	// The unit must not see the link before what it leads to.
	r.order()
	pause()
	if !swap(slot, e, linkEntry[F](bus)) {
		r.cursor = start
		r.discard(bus, h.level-1)
		return false, false
	}
	if !present[F](e) { // else the dead table's use is ours now
		h.extra--
	}
	if shared {
		r.fresh[r.freshN] = u
		r.freshN++
	}
	return true, true
}

// holding is which of held e points to, or -1.
func (r *request[F]) holding(e pte) int {
	for j := 1; j < r.holds; j++ {
		if r.held[j].bus == e.bus() {
			return j
		}
	}
	return -1
}

// build maps [first, last] in a new table, which the unit cannot reach yet, and
// flushes it. It returns the uses that the table starts with.
func (r *request[F]) build(level int, first, last uint64) (bus uint64, used int) {
	f, tbl := r.spare.pop(r.mem)
	if tbl == nil {
		return 0, 0 // something else writes to the tables; see pop
	}
	if level == r.keep-1 {
		r.flush(tbl[:])
		return f.Bus, heldOnce
	}
	for at := first; ; {
		r.seek(at)
		i := index(at, level)
		if n := r.room(level, at, last); n > 0 {
			fill(tbl[i:i+n], uint64(leafEntry[F](at+r.delta, r.prot, level)), span(level))
			used += n
			if at += uint64(n) << shift(level); at-1 == last {
				break
			}
			continue
		}
		end := min(whole(at, level), last)
		if next, n := r.build(level-1, at, end); n > 0 {
			r.mem.uses(next).start(n, true)
			store(&tbl[i], linkEntry[F](next))
			used++
		}
		if end == last {
			break
		}
		at = end + 1
	}
	r.flush(tbl[:])
	return f.Bus, used
}

// discard takes a new table and those below it apart.
func (r *request[F]) discard(bus uint64, level int) {
	tbl := r.mem.entries(bus)
	if tbl == nil {
		return
	}
	for i := 0; i < entries && level > 0; i++ {
		if e := load(&tbl[i]); link[F](e, level) {
			r.discard(e.bus(), level-1)
		}
	}
	fill(tbl[:], 0, 0)
	r.mem.uses(bus).end()
	r.spare.push(r.mem, Frame{bus})
}

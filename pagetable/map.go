package pagetable

// Map lets the device reach size bytes at bus through iova. All three are
// multiples of 4096, the range lies within the table's address width, and
// nothing in it is mapped yet: Map never overwrites (ErrOverlap, with the
// lowest IOVA in the way). It uses the largest leaves that fit. Map refuses bus
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
// mode (VT-d §6.1) or needs its write buffer flushed has to be told first.
//
// Map does not block and allocates nothing, except for the error of a refused
// call (a dry pool's error is ready-made). Its work is bounded by size.
//
//gommu:nosleep
func (t *Table) Map(iova, bus, size uint64, prot Prot) error {
	root := t.rootPtr.Load()
	last := iova + size - 1
	if root == nil || (iova|bus|size)%FrameSize != 0 || size == 0 || last < iova || last>>t.width != 0 ||
		(bus+size-1)>>busBits != 0 || bus>>busBits != 0 || prot == 0 || prot&^(Read|Write) != 0 {
		return t.refuseMap(iova, bus, size, prot)
	}
	r := request{t: t, delta: bus - iova, prot: prot, leaf: leafLevel(iova, bus, t.maxLeaf)}

	// Go down to the lowest table that holds the whole range. parent is the
	// entry that points to it.
	tbl, level := root, t.top
	var parent *uint64
	for level > 0 {
		i := index(iova, level)
		if index(last, level) != i {
			break
		}
		e := load(&tbl[i])
		if e == 0 || e.leaf(level) {
			break
		}
		next := t.child(e)
		if next == nil {
			return t.mapError(iova, bus, size, ErrCorrupt)
		}
		parent, tbl = &tbl[i], next
		level--
	}

	n, err := r.place(tbl, level, iova, last)
	if err != nil {
		return t.mapError(iova, bus, size, err)
	}
	if parent != nil {
		store(parent, load(parent)+pte(n)*countOne)
	}
	t.order()
	return nil
}

// request is one Map on its way through the tables.
type request struct {
	t     *Table
	delta uint64 // bus address less IOVA, modulo 2^64
	prot  Prot
	leaf  int // entries of this level and below that the range covers whole become leaves
	need  int // tables to be made
	spare frameList
}

// place maps [iova, last] below tbl, and returns how many entries of tbl it
// took into use. If it fails it has changed nothing.
func (r *request) place(tbl *[entries]uint64, level int, iova, last uint64) (added int, err error) {
	if level <= r.leaf && (iova|(last+1))&(span(level)-1) == 0 {
		// The usual case: one run of leaves in a table that is there.
		run := tbl[index(iova, level) : index(last, level)+1]
		if inUse(run) {
			return 0, ErrOverlap
		}
		fill(run, uint64(leafEntry(iova+r.delta, r.prot, level)), span(level))
		r.t.flush(run)
		return len(run), nil
	}
	if err := r.plan(tbl, level, iova, last); err != nil {
		return 0, err
	}
	if r.need > 0 {
		if r.spare, err = r.t.take(r.need); err != nil {
			return 0, err
		}
	}
	return r.write(tbl, level, iova, last, true), nil
}

// cut splits the part of a table of level that [iova, last] covers, entries lo
// to hi, into leaves and the rest: entries [from, to) become leaves, the
// others are for the level below.
func (r *request) cut(level int, iova, last uint64) (lo, hi, from, to int) {
	lo, hi = index(iova, level), index(last, level)
	if level > r.leaf {
		return lo, hi, hi + 1, hi + 1
	}
	from, to = lo, hi+1
	if iova&(span(level)-1) != 0 {
		from++
	}
	if last != whole(last, level) {
		to--
	}
	return lo, hi, from, to
}

// clip is the part of [iova, last] that entry i of a table of level
// translates; the table is the one that translates iova.
func clip(level, i int, iova, last uint64) (uint64, uint64) {
	start := iova&^(span(level+1)-1) + uint64(i)*span(level)
	return max(start, iova), min(start+span(level)-1, last)
}

// plan checks that nothing is mapped in [iova, last] below tbl, and adds to
// need the tables that are missing there. A nil tbl is one of these.
func (r *request) plan(tbl *[entries]uint64, level int, iova, last uint64) error {
	lo, hi, from, to := r.cut(level, iova, last)
	switch {
	case tbl == nil:
		r.need++
	case from < to && inUse(tbl[from:to]):
		return ErrOverlap
	}
	for i := lo; i <= hi; i++ {
		if i == from && from < to {
			i = to - 1
			continue
		}
		var next *[entries]uint64
		if tbl != nil {
			e := load(&tbl[i])
			if e != 0 && e.leaf(level) {
				return ErrOverlap
			}
			if e != 0 {
				if next = r.t.child(e); next == nil {
					return ErrCorrupt
				}
			}
		}
		first, end := clip(level, i, iova, last)
		if err := r.plan(next, level-1, first, end); err != nil {
			return err
		}
	}
	return nil
}

// write maps [iova, last] below tbl after plan has found it free, and returns
// how many entries of tbl it took into use. A table is linked into its parent
// when it is complete; live says that the unit can reach tbl already.
func (r *request) write(tbl *[entries]uint64, level int, iova, last uint64, live bool) (added int) {
	t := r.t
	lo, hi, from, to := r.cut(level, iova, last)
	for i := lo; i <= hi; i++ {
		first, end := clip(level, i, iova, last)
		if i == from && from < to {
			fill(tbl[from:to], uint64(leafEntry(first+r.delta, r.prot, level)), span(level))
			added += to - from
			i = to - 1
			continue
		}
		if e := load(&tbl[i]); e != 0 {
			n := r.write(t.child(e), level-1, first, end, live)
			store(&tbl[i], e+pte(n)*countOne)
			continue
		}
		f, next := r.spare.pop(t.mem)
		n := r.write(next, level-1, first, end, false)
		// The unit must not see the link before what it leads to.
		t.flush(next[:])
		if live {
			t.order()
		}
		store(&tbl[i], tableEntry(f.Bus, n))
		added++
	}
	if live && added > 0 {
		t.flush(tbl[lo : hi+1])
	}
	return added
}

// refuseMap says what is wrong with the arguments of Map.
func (t *Table) refuseMap(iova, bus, size uint64, prot Prot) error {
	var err error
	switch {
	case t.rootPtr.Load() == nil:
		err = ErrClosed
	case size == 0:
		err = ErrZeroSize
	case (iova|bus|size)%FrameSize != 0:
		err = ErrMisaligned
	case prot == 0 || prot&^(Read|Write) != 0:
		err = ErrProt
	case t.beyond(iova, size):
		err = ErrRange
	default:
		err = ErrBusRange
	}
	return t.mapError(iova, bus, size, err)
}

// beyond says that the range wraps around or leaves the address width.
func (t *Table) beyond(iova, size uint64) bool {
	last := iova + size - 1
	return last < iova || last>>t.width != 0
}

// mapError wraps err, except the one that is ready-made.
func (t *Table) mapError(iova, bus, size uint64, err error) error {
	if err == errDry {
		return err
	}
	e := &OpError{Op: opMap, IOVA: iova, Bus: bus, Size: size, Err: err}
	if err == ErrOverlap {
		for leaf := range t.leaves(iova, iova+size-1) {
			e.At = max(leaf.IOVA, iova)
			break
		}
	}
	return e
}

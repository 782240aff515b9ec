package iommu

import "gommu/iommu/iova"

// The hot path of a premapped domain. What is mapped there is mapped already: a mapping is a sum, and a record of it, so that
// unmapping twice is refused, and closing a region that something of is in use.
//
// The record of a mapping of one region shows that region. That of anything else, a list, a bounce buffer, memory
// that MapWait has registered, shows none: then it has the slot of a buffer, or more records, each with a region or a slot.
// These are parts: no Mapping names them.

const phasePart = phaseMask // of a record that is a part of a live mapping

// mapPremapped maps n bytes of a region from off on.
//
//gommu:nosleep
func (d *Domain) mapPremapped(r *Region, off, n uint64, dir Direction) (Mapping, error) {
	if n > maxMap {
		return Mapping{}, d.refuse(opMap, Mapping{size: n}, ErrTooLarge)
	}
	return d.recordIn(r, off, n, dir)
}

// recordIn is mapPremapped for any size.
//
//gommu:nosleep
func (d *Domain) recordIn(r *Region, off, n uint64, dir Direction) (Mapping, error) {
	m, err := d.record(use{iova: r.iova + off, size: n, region: r.id, phase: phaseLive, dir: dir})
	if err != nil {
		return Mapping{}, err
	}
	if r.closing.Load() {
		d.giveRecord(m.number)
		return Mapping{}, d.refuse(opMap, m, ErrNotRegistered)
	}
	d.flushLines(r, off, n) // not before: the memory may be gone
	return m, nil
}

// A use is what a record is to say.
type use struct {
	iova, size, off    uint64
	phase              uint64
	region, slot, more uint32 // slot: of a bounce buffer, plus 1
	dir                Direction
}

// record takes a record and makes it say u. The store that shows its region is one that no load after it is done before.
//
//gommu:nosleep
func (d *Domain) record(u use) (Mapping, error) {
	s := d.pin()
	if s == nil {
		return d.strayRecord(u)
	}
	if d.closed.Load() {
		s.unpin()
		return Mapping{}, d.errs.closed
	}
	n, err := s.extra.Get()
	if err != nil {
		s.unpin()
		return Mapping{}, ErrEmpty
	}
	g := d.records[n].start(n, u)
	if u.phase == phaseLive {
		s.maps.add(1)
	}
	s.unpin()
	return Mapping{iova: u.iova, size: u.size, number: n, generation: g + d.salt}, nil
}

// strayRecord is record for processors without a shard.
//
//gommu:nosleep
func (d *Domain) strayRecord(u use) (Mapping, error) {
	d.strays.Add(1)
	defer d.strays.Add(-1)
	if d.closed.Load() {
		return Mapping{}, d.errs.closed
	}
	n, err := d.extra.Get()
	if err != nil {
		return Mapping{}, ErrEmpty
	}
	return Mapping{iova: u.iova, size: u.size, number: n, generation: d.records[n].start(n, u) + d.salt}, nil
}

//gommu:nosleep
func (r *record) start(number uint32, u use) (generation uint32) {
	r.iova.set(u.iova)
	r.size.set(u.size)
	r.win = iova.Window{Start: u.off, Size: u.size, Number: number} // of a part: where it is in the mapping
	r.set(kindExtra, u.dir, u.slot)
	r.more = u.more
	g := r.state.Load()>>generationShift + 1
	r.state.Store(g<<generationShift | uint64(u.region)<<regionShift | u.phase)
	return uint32(g)
}

// giveRecord frees a record that nobody else can free.
//
//gommu:nosleep
func (d *Domain) giveRecord(n uint32) {
	s := d.pin()
	d.records[n].end()
	d.putNumber(s, n)
	if s != nil {
		s.unpin()
	}
}

// putNumber gives the number of a free record back, unless that is a shard's own.
//
//gommu:nosleep
func (d *Domain) putNumber(s *shard, n uint32) {
	if n > uint32(d.owned) {
		d.putExtra(s, n)
	}
}

// unmapPremapped ends a mapping. The devices reach the memory as before, as long as it is registered, so nothing is
// flushed.
//
//gommu:nosleep
func (d *Domain) unmapPremapped(m Mapping) error {
	if uint(m.number) >= uint(len(d.records)) {
		return d.refuse(opUnmap, m, ErrNotMapped)
	}
	rec := &d.records[m.number]
	s := rec.state.Load()
	if uint32(s>>generationShift)+d.salt != m.generation || phaseOf(s) != phaseLive {
		return d.refuse(opUnmap, m, ErrNotMapped)
	}
	// If these are of a later use of the record, the swap below fails.
	if rec.iova.get() != m.iova || rec.size.get() != m.size {
		return d.refuse(opUnmap, m, ErrPart)
	}
	if regionOf(s) == 0 {
		return d.unmapParts(rec, s, m)
	}
	if d.opts.NonCoherent && rec.direction()&FromDevice != 0 {
		d.flushRecord(rec, 0, m.size)
	}
	p := d.pin()
	ok := rec.state.CompareAndSwap(s, s>>generationShift<<generationShift)
	if ok {
		d.putNumber(p, m.number)
	}
	if p != nil {
		p.unpin()
	}
	if !ok {
		return d.refuse(opUnmap, m, ErrNotMapped)
	}
	return nil
}

// unmapParts is unmapPremapped for a mapping that shows no region.
//
//gommu:nosleep
func (d *Domain) unmapParts(rec *record, state uint64, m Mapping) error {
	if !rec.state.CompareAndSwap(state, state+(phaseUnmapping-phaseLive)) {
		return d.refuse(opUnmap, m, ErrNotMapped)
	}
	d.endParts(m.number, rec.direction())
	return nil
}

// endParts frees a record and its parts, copies back what went through bounce buffers in direction dir, and gives these
// back.
//
//gommu:nosleep
func (d *Domain) endParts(n uint32, dir Direction) {
	for {
		rec := &d.records[n]
		next, region := rec.more, d.regions.get(regionOf(rec.state.Load()))
		d.endSync(rec, dir)
		if slot, ok := rec.bounce(); ok {
			d.bounce.free(slot)
		}
		d.giveRecord(n)
		d.retire(region)
		if next == 0 {
			return
		}
		n = next
	}
}

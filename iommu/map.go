package iommu

import (
	"gommu/pagetable"
)

const (
	pageSize = 4096
	pageMask = pageSize - 1
	slabSize = 2 << 20 // and the alignment of memory that is at least as large

	// maxMap is the largest window that the pools keep ready.
	maxMap = 1 << 30

	// tableSpan is what one table of pages maps. Only windows of at least that much can be such
	// that an Unmap takes tables out of use: those of smaller ones are held.
	tableSpan = 2 << 20
)

// mapAny is Map.
//
//gommu:nosleep
func (d *Domain) mapAny(mem []byte, dir Direction) (Mapping, error) {
	n := uint64(len(mem))
	if n == 0 || !dir.valid() {
		return Mapping{}, d.refuse(opMap, Mapping{size: n}, wrong(n, dir))
	}
	addr := addressOf(mem)
	r := d.find(addr, n)
	if r == nil {
		return d.mapForeign(mem, dir)
	}
	if d.table != nil && d.check == nil && !d.opts.NonCoherent && r.extents == nil && r.dir&dir == dir && n < tableSpan-2*pageSize {
		if m, done, err := d.mapPages(r, uint64(addr-r.start), n, dir); done {
			return m, err
		}
	}
	return d.mapRegion(r, uint64(addr-r.start), n, dir, 0)
}

// mapPages is mapRegion for what is nearly always so: memory that is contiguous on the bus, less than a table maps, and a window in
// the shard. It does the same in fewer calls, which are what counts where the processor is emulated. If it is not so it says
// that it has done nothing.
//
//gommu:nosleep
func (d *Domain) mapPages(r *Region, off, n uint64, dir Direction) (m Mapping, done bool, err error) {
	in := off & pageMask
	span := (in + n + pageMask) &^ pageMask
	s := d.seize()
	if s == nil || d.closed.Load() {
		s.unpin()
		return Mapping{}, false, nil
	}
	w, err := s.windows.Alloc(span)
	if err != nil {
		s.unpin()
		return Mapping{}, false, nil
	}
	rec := &d.records[w.Number]
	rec.begin(r.id)
	s.maps.add(1)
	s.unpin()
	rec.win = w
	rec.set(kindPooled, dir, 0)
	if r.closing.Load() || w.Size >= tableSpan {
		if err := d.prepare(rec, r); err != nil {
			return Mapping{}, true, err
		}
	}
	if err := d.table.Map(w.Start, r.bus+(off-in), span, d.prot(dir)); err != nil {
		d.undo(rec, 0)
		return Mapping{}, true, err
	}
	if !d.flusher.publish(w.Start, span) {
		d.undo(rec, span)
		return Mapping{}, true, d.errs.mapFlush
	}
	return d.show(rec, w.Start+in, n), true, nil
}

// MapBatch maps each of mem and puts the mappings into out, which has room for them: all or
// nothing.
//
//gommu:nosleep
func (d *Domain) MapBatch(mem [][]byte, dir Direction, out []Mapping) error {
	if len(out) < len(mem) {
		return d.refuse(opMap, Mapping{}, ErrPieces)
	}
	for i := range mem {
		m, err := d.Map(mem[i], dir)
		if err != nil {
			_ = d.UnmapBatch(out[:i]) // a unit that failed is the worker's business
			clear(out[:i])
			return err
		}
		out[i] = m
	}
	return nil
}

// mapRegion maps n bytes of a region from off on, which lie in it: memory of the user, or, if slot is not 0, of the bounce
// buffer in slot-1, which it gives back if it fails.
//
//gommu:nosleep
func (d *Domain) mapRegion(r *Region, off, n uint64, dir Direction, slot uint32) (Mapping, error) {
	if r.dir&dir != dir {
		return Mapping{}, d.refuse(opMap, Mapping{size: n}, ErrDirection)
	}
	if d.table == nil {
		return d.mapPremapped(r, off, n, dir)
	}
	in := off & pageMask
	span := (in + n + pageMask) &^ pageMask
	if span > maxMap {
		return Mapping{}, d.refuse(opMap, Mapping{size: n}, ErrTooLarge)
	}
	rec, err := d.takeWindow(span, r.id)
	if err != nil {
		if slot != 0 {
			d.bounce.free(slot - 1)
		}
		return Mapping{}, err
	}
	rec.set(kindPooled, dir, slot)
	if err := d.fill(rec, r, off-in, span, dir); err != nil {
		return Mapping{}, err
	}
	return d.show(rec, rec.win.Start+in, n), nil
}

// show makes a record live that is all set.
//
//gommu:nosleep
func (d *Domain) show(rec *record, iova, n uint64) Mapping {
	rec.iova.set(iova)
	rec.size.set(n)
	return Mapping{iova: iova, size: n, number: rec.win.Number, generation: rec.goLive() + d.salt}
}

// fill maps span bytes of a region from off on, both whole pages, in the window of a record. If
// it fails the record and its window are given back.
//
//gommu:nosleep
func (d *Domain) fill(rec *record, r *Region, off, span uint64, dir Direction) error {
	if err := d.prepare(rec, r); err != nil {
		return err
	}
	if d.check != nil {
		d.check.mapped(rec.win.Start, rec.win.Size) //gommu:trust Options.Check is for tests
	}
	done, err := d.write(rec.win.Start, r, off, span, d.prot(dir))
	if err == nil {
		d.flushLines(r, off, span)
	}
	return d.written(rec, done, err)
}

// prepare makes a record that has its window ready for a Map of a region. If it fails the record is given back.
//
//gommu:nosleep
func (d *Domain) prepare(rec *record, r *Region) error {
	if r.closing.Load() {
		d.abandon(rec)
		return d.refuse(opMap, Mapping{}, ErrNotRegistered)
	}
	if rec.win.Size < tableSpan || rec.kind() == kindRing {
		return nil
	}
	err := d.takeSlot(rec)
	if err != nil {
		d.abandon(rec)
	}
	return err
}

// written tells the units of a Map that has written done bytes. If that fails, or err says that
// the Map did, it is undone.
//
//gommu:nosleep
func (d *Domain) written(rec *record, done uint64, err error) error {
	if err == nil && !d.flusher.publish(rec.win.Start, done) {
		err = d.errs.mapFlush
	}
	if err != nil {
		d.undo(rec, done)
	}
	return err
}

// undo takes away what a Map has written before it failed.
//
//gommu:nosleep
func (d *Domain) undo(rec *record, written uint64) {
	if written == 0 {
		d.abandon(rec)
		return
	}
	rec.state.Add(phaseUnmapping - phaseMapping)
	_ = d.remove(rec) // if the unit fails now, it does so for everybody
}

// abandon gives back the window of a record of which no unit can know anything.
//
//gommu:nosleep
func (d *Domain) abandon(rec *record) {
	if rec.kind() == kindRing {
		d.ring(rec).finish(rec)
		return
	}
	s := d.pin()
	d.finish(s, rec)
	if s != nil {
		s.unpin()
	}
}

// prot is what tables say of a direction. First-stage tables know no leaves that cannot be read.
//
//gommu:nosleep
func (d *Domain) prot(dir Direction) pagetable.Prot { return dir.prot() | d.always }

// write puts span bytes of a region from off on into the table at iova. It returns how much of
// it is there if it fails: not all in one call goes there what is in many pieces.
//
//gommu:nosleep
func (d *Domain) write(iova uint64, r *Region, off, span uint64, prot pagetable.Prot) (done uint64, err error) {
	if r.extents == nil {
		if err := d.table.Map(iova, r.bus+off, span, prot); err != nil {
			return 0, err
		}
		return span, nil
	}
	w := writer{t: d.table, at: iova, prot: prot}
	if err = w.add(r, off, span); err == nil {
		err = w.flush()
	}
	return w.at - iova, err
}

// A writer maps pieces of memory one after the other, those that are contiguous on the bus in one call. It
// is no call of MapExtents, to which what lies on a stack escapes.
type writer struct {
	t    *pagetable.Table
	prot pagetable.Prot
	at   uint64 // IOVA of run
	run  pagetable.Extent
}

// add adds span bytes of a region from off on, both whole pages.
//
//gommu:nosleep
func (w *writer) add(r *Region, off, span uint64) error {
	if r.extents == nil {
		return w.put(r.bus+off, span)
	}
	for i := r.piece(off); span > 0; i++ {
		x, skip := r.extents[i], off-r.starts[i]
		n := min(x.Size-skip, span)
		if err := w.put(x.Bus+skip, n); err != nil {
			return err
		}
		off, span = off+n, span-n
	}
	return nil
}

//gommu:nosleep
func (w *writer) put(bus, size uint64) error {
	if w.run.Bus+w.run.Size != bus {
		if err := w.flush(); err != nil {
			return err
		}
		w.run.Bus = bus
	}
	w.run.Size += size
	return nil
}

// flush maps what was gathered.
//
//gommu:nosleep
func (w *writer) flush() error {
	if w.run.Size == 0 {
		return nil
	}
	if err := w.t.Map(w.at, w.run.Bus, w.run.Size, w.prot); err != nil {
		return err
	}
	w.at += w.run.Size
	w.run.Size = 0
	return nil
}

// piece is the index of the extent that off lies in.
//
//gommu:nosleep
func (r *Region) piece(off uint64) int {
	lo, hi := 0, len(r.starts)
	for hi-lo > 1 {
		if mid := int(uint(lo+hi) >> 1); r.starts[mid] <= off {
			lo = mid
		} else {
			hi = mid
		}
	}
	return lo
}

// valid says whether dir is a direction at all.
//
//gommu:nosleep
func (d Direction) valid() bool { return d-1 < Bidirectional }

// wrong says what is wrong with a size or a direction.
func wrong(n uint64, dir Direction) error {
	if n == 0 {
		return ErrZeroSize
	}
	return ErrDirection
}

package iommu

import (
	"gommu/internal/probe"
	"gommu/pagetable"
)

// unmapAny is Unmap.
//
//gommu:nosleep
func (d *Domain) unmapAny(m Mapping) error {
	if d.table == nil {
		return d.unmapPremapped(m)
	}
	rec, err := d.claim(m, 0)
	if err != nil {
		return err
	}
	if d.check != nil || d.opts.NonCoherent || d.opts.Flush.Policy != Batched || !rec.simple() {
		return d.remove(rec)
	}
	// The same, as for most records there is nothing else to do.
	var none pagetable.Batch
	if _, err := d.table.Unmap(rec.win.Start, rec.win.Size, &none); err != nil {
		return err
	}
	return d.leave(rec)
}

// UnmapBatch takes mappings away, and returns the first error after it has tried all of them. In a strict domain it
// flushes once for all.
//
//gommu:nosleep
func (d *Domain) UnmapBatch(list []Mapping) error {
	if d.table != nil && d.opts.Flush.Policy == Strict {
		return d.unmapTogether(list)
	}
	var first error
	for _, m := range list {
		if err := d.Unmap(m); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// unmapTogether is UnmapBatch in a strict domain.
//
//gommu:nosleep
func (d *Domain) unmapTogether(list []Mapping) (first error) {
	var all burst
	begin := probe.Begin(probe.Unmap) // all are told of or none
	for _, m := range list {
		rec, err := d.claim(m, 0)
		if err == nil {
			d.copyBack(rec)
			var tables bool
			if tables, err = d.clear(rec); err == nil {
				all.add(rec)
				all.tables = all.tables || tables
			}
		}
		if err != nil && begin != 0 {
			d.subject.tellUnmap(begin, m, 0, err)
		}
		if err != nil && first == nil {
			first = err
		}
	}
	if all.count == 0 {
		return first
	}
	ok := !keep(stepStrict) || d.flusher.forget(&all, !all.tables || !keep(stepTables))
	if begin != 0 {
		d.tellTogether(begin, &all, ok)
	}
	for n := all.head; n != 0; {
		rec := &d.records[n]
		n = rec.next
		if ok {
			d.done(rec)
		} else {
			_ = d.leave(rec)
		}
	}
	if !ok && first == nil {
		first = d.errs.flush
	}
	return first
}

// A burst is records that were cleared, linked by next, and the range that has all of their windows.
type burst struct {
	head        uint32
	count       int
	bytes       uint64 // of the windows
	first, last uint64
	tables      bool // went out of use
}

//gommu:nosleep
func (b *burst) add(rec *record) {
	w := rec.win
	last := w.Start + w.Size - 1
	if b.count == 0 {
		b.first, b.last = w.Start, last
	}
	b.first, b.last = min(b.first, w.Start), max(b.last, last)
	rec.next, b.head = b.head, w.Number
	b.count++
	b.bytes += w.Size
}

// remove takes away what is mapped in the window of a record whose phase is
// unmapping, and sees that it is flushed and given back, at once or later.
//
//gommu:nosleep
func (d *Domain) remove(rec *record) error {
	d.copyBack(rec)
	if rec.kind() == kindRing {
		return d.ring(rec).remove(rec)
	}
	tables, err := d.clear(rec)
	if err != nil {
		return err // it cannot be: the window is mapped as a whole
	}
	if d.opts.Flush.Policy == Batched {
		return d.leave(rec)
	}
	w := rec.win
	one := burst{count: 1, bytes: w.Size, first: w.Start, last: w.Start + w.Size - 1}
	if !keep(stepStrict) || d.flusher.forget(&one, !tables || !keep(stepTables)) {
		d.done(rec)
		return nil
	}
	_ = d.leave(rec)
	return d.errs.flush
}

// done gives a record back that was flushed by the call that unmapped it.
//
//gommu:nosleep
func (d *Domain) done(rec *record) {
	s := d.pin()
	d.finish(s, rec)
	if s != nil {
		s.unmaps.add(1)
		s.unpin()
	}
}

// clear takes the window of a record out of the table and says whether tables went out of use with it.
//
//gommu:nosleep
func (d *Domain) clear(rec *record) (tables bool, err error) {
	var none pagetable.Batch
	b := &none
	if slot := rec.slot(); slot != 0 {
		b = &d.batches[slot-1]
	}
	if _, err = d.table.Unmap(rec.win.Start, rec.win.Size, b); err != nil {
		return false, err
	}
	tables = b.Tables() != 0
	d.waitParts(rec)
	if d.check != nil {
		d.check.unmapped(d, rec, tables) //gommu:trust Options.Check is for tests
	}
	return tables, nil
}

// waitParts notes of the records that continue one that they are no part of a live mapping any more: they wait for its flush.
//
//gommu:nosleep
func (d *Domain) waitParts(rec *record) {
	for n := rec.more; n != 0; n = d.records[n].more {
		more := &d.records[n]
		more.state.Store(more.state.Load()&^phaseMask | phaseUnmapping)
	}
}

// slot is the record's batch slot plus 1, or 0.
//
//gommu:nosleep
func (r *record) slot() uint32 {
	if r.kind() == kindRing {
		return 0
	}
	return r.aux
}

// takeSlot gives a record a batch, for the tables that its Unmap will take out of use.
//
//gommu:nosleep
func (d *Domain) takeSlot(rec *record) error {
	n, err := d.slots.Get()
	if err == nil {
		rec.aux = n + 1
	}
	return err
}

// finish gives a record, and all that it holds, back: no unit has it any more. The caller is pinned to the shard;
// without one everything goes to the pools themselves.
//
//gommu:nosleep
func (d *Domain) finish(s *shard, rec *record) {
	if d.check != nil {
		d.check.freed(rec, rec.slot() != 0) //gommu:trust Options.Check is for tests
	}
	if slot := rec.slot(); slot != 0 {
		// Pools are open as long as a record is not free, so these cannot fail.
		_ = d.batches[slot-1].Release()
		_ = d.slots.Put(slot - 1)
	}
	if slot, ok := rec.bounce(); ok {
		d.bounce.free(slot)
	}
	d.finishMore(s, rec)
	d.putRecord(s, rec)
}

// finishMore gives back the records that continue this one.
//
//gommu:nosleep
func (d *Domain) finishMore(s *shard, rec *record) {
	for n := rec.more; n != 0; {
		more := &d.records[n]
		next := more.more
		more.end()
		d.putExtra(s, n)
		n = next
	}
}

//gommu:nosleep
func (d *Domain) putRecord(s *shard, rec *record) {
	w := rec.win
	kind := rec.kind()
	if kind == kindWaited {
		d.pushLate(rec)
		return
	}
	rec.end()
	switch {
	case kind == kindExtra:
		d.putExtra(s, w.Number)
	case s != nil:
		_ = s.windows.Free(w)
	default:
		_ = d.space.Free(w)
	}
}

//gommu:nosleep
func (d *Domain) putExtra(s *shard, n uint32) {
	if s != nil {
		_ = s.extra.Put(n)
		return
	}
	_ = d.extra.Put(n)
}

// pushLate leaves a record to the worker, which may sleep to give its window back.
//
//gommu:nosleep
func (d *Domain) pushLate(rec *record) {
	push(&d.late, d.records, rec.win.Number)
}

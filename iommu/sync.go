package iommu

import "gommu/internal/cacheline"

// SyncForCPU makes what the device wrote visible to the processor, n bytes from off of the mapping on, while it stays
// mapped: it copies them out of a bounce buffer, and has a processor that does not see what devices write forget what
// it has cached. Otherwise it costs nothing. Afterwards the processor may read them, until the device gets them
// again by SyncForDevice.
//
// Errors: ErrNotMapped, ErrZeroSize, ErrRange, and ErrDirection for a mapping that the device only reads, as
// Linux's CONFIG_DMA_API_DEBUG says it: there is nothing to be seen. It must not run at once with an Unmap of the mapping.
//
//gommu:nosleep
func (d *Domain) SyncForCPU(m Mapping, off, n uint64) error {
	rec, err := d.checkSync(m, off, n)
	if err != nil {
		return err
	}
	if rec.direction() == ToDevice {
		return d.refuse(opSync, m, ErrDirection)
	}
	d.eachPart(rec, off, n, false)
	return nil
}

// SyncForDevice makes what the processor wrote visible to the device, n bytes from off of the mapping on: the other way of
// SyncForCPU. It is allowed, as there, on a mapping that the device only writes: so the device gets a
// buffer back that the processor is done with, and what it does not write then stays what the processor left.
//
// Errors: ErrNotMapped, ErrZeroSize, ErrRange.
//
//gommu:nosleep
func (d *Domain) SyncForDevice(m Mapping, off, n uint64) error {
	rec, err := d.checkSync(m, off, n)
	if err != nil {
		return err
	}
	d.eachPart(rec, off, n, true)
	return nil
}

//gommu:nosleep
func (d *Domain) checkSync(m Mapping, off, n uint64) (*record, error) {
	rec := d.lookup(m)
	switch {
	case rec == nil:
		return nil, d.refuse(opSync, m, ErrNotMapped)
	case n == 0:
		return nil, d.refuse(opSync, m, ErrZeroSize)
	case off >= m.size || n > m.size-off:
		return nil, d.refuse(opSync, m, ErrRange)
	}
	return rec, nil
}

// eachPart syncs what of the mapping that starts with rec lies in n bytes from off on.
//
//gommu:nosleep
func (d *Domain) eachPart(rec *record, off, n uint64, toDevice bool) {
	if d.bounce == nil && !d.opts.NonCoherent {
		return
	}
	for {
		if s, ok := rec.bounce(); ok {
			d.syncSlot(d.bounce.used(slot(s)), off, n, toDevice)
		} else if d.opts.NonCoherent {
			d.flushRecord(rec, off, n)
		}
		if rec.more == 0 || d.table != nil {
			return // a table's record has the whole list
		}
		rec = &d.records[rec.more]
	}
}

// syncSlot copies between a bounce buffer and the memory that it stands for.
//
//gommu:nosleep
func (d *Domain) syncSlot(x bounced, off, n uint64, toDevice bool) {
	from, to := x.span(off, n)
	if from == to {
		return
	}
	user, buffer := x.user.mem[from:to], x.mem()[from:to]
	if toDevice {
		copy(buffer, user)
	}
	d.flushLines(x.r, x.off+from, to-from)
	if !toDevice {
		copy(user, buffer)
	}
}

// endSync makes visible to the processor what the device wrote into a part of a premapped mapping that ends.
//
//gommu:nosleep
func (d *Domain) endSync(rec *record, dir Direction) {
	if dir&FromDevice == 0 {
		return
	}
	if n, ok := rec.bounce(); ok {
		x := d.bounce.used(slot(n))
		d.syncSlot(x, x.user.off, uint64(len(x.user.mem)), false)
	} else if d.opts.NonCoherent {
		d.flushRecord(rec, rec.win.Start, rec.win.Size)
	}
}

// copyBack makes visible to the processor what the device wrote into a mapping that ends.
//
//gommu:nosleep
func (d *Domain) copyBack(rec *record) {
	if rec.direction()&FromDevice == 0 {
		return
	}
	if n, ok := rec.bounce(); ok {
		x := d.bounce.used(slot(n))
		d.syncSlot(x, x.user.off, uint64(len(x.user.mem)), false)
	} else if d.opts.NonCoherent {
		d.flushTable(rec, rec.win.Start, rec.win.Size)
	}
}

// flushLines writes the processors' cache lines of a part of a region back and has them forget it, if devices do not see these. Between
// the processor's writes and the device's reads that shows them; before the device's writes, so that no older line
// is written back over them later; and after those, so that the processor reads them, not what it has cached.
//
//gommu:nosleep
func (d *Domain) flushLines(r *Region, off, n uint64) {
	if !d.opts.NonCoherent || r.mem == nil {
		return
	}
	cacheline.Flush(wordsOf(r.mem[off:][:n]))
	cacheline.Fence()
}

// flushRecord flushes the lines of what of a record, that is no bounce buffer, lies in n bytes of its mapping from off on.
//
//gommu:nosleep
func (d *Domain) flushRecord(rec *record, off, n uint64) {
	if d.table != nil {
		// Each piece of a list begins on a page of its own: so it may lie further on, by at most what the window has more
		// than the list.
		iova, size := rec.iova.get(), rec.size.get()
		gaps := rec.win.Size - iova&pageMask - size
		d.flushTable(rec, iova+off, min(n+gaps, rec.win.Start+rec.win.Size-iova-off))
		return
	}
	r := d.regions.get(regionOf(rec.state.Load()))
	if r == nil {
		return // a list, whose parts follow
	}
	start := rec.win.Start // of the part in the mapping
	from, to := max(off, start), min(off+n, start+rec.win.Size)
	if from < to {
		d.flushLines(r, rec.iova.get()+from-start-r.iova, to-from)
	}
}

// flushTable flushes the lines of what is mapped in n bytes from iova on. The table knows where that is.
//
//gommu:nosleep
func (d *Domain) flushTable(rec *record, iova, n uint64) {
	for end := iova + n; iova < end; {
		leaf, ok := d.table.Lookup(iova)
		if !ok {
			iova = iova&^pageMask + pageSize
			continue
		}
		in := iova - leaf.IOVA
		size := min(leaf.Size-in, end-iova)
		r, off, most := d.locate(rec, leaf.Bus+in)
		if r == nil {
			iova = iova&^pageMask + pageSize
			continue
		}
		size = min(size, most)
		d.flushLines(r, off, size)
		iova += size
	}
}

// locate finds a bus address in the regions of a record and those that continue it: the offset in the region, and for
// how many bytes both go on together. In a region of many pieces it looks at all of them.
//
//gommu:nosleep
func (d *Domain) locate(rec *record, bus uint64) (r *Region, off, size uint64) {
	for {
		if r := d.regions.get(regionOf(rec.state.Load())); r != nil {
			if r.extents == nil && bus-r.bus < r.size {
				return r, bus - r.bus, r.size - (bus - r.bus)
			}
			for i, x := range r.extents {
				if bus-x.Bus < x.Size {
					return r, r.starts[i] + bus - x.Bus, x.Size - (bus - x.Bus)
				}
			}
		}
		if rec.more == 0 {
			return nil, 0, 0
		}
		rec = &d.records[rec.more]
	}
}

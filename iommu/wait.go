package iommu

import (
	"context"
	"errors"
	"time"

	"gommu/internal/probe"
	"gommu/iommu/iova"
)

// MapWait is Map for those who may sleep: it waits for pools, maps any size, registers foreign memory for as long
// as the mapping lives, and honours a place, which is that of the first page: the IOVA has the memory's offset in its page.
//
// Foreign memory must be of whole pages that are mapped in this process, and stay so until the mapping is gone: never of the Go
// heap or a stack. The devices reach the whole pages that it lies in. In a premapped domain they do so, and an entry of the kernel's
// is in use, until the worker has seen that the mapping was unmapped, which takes 50 milliseconds, or
// until the next Flush.
//
// Errors: those of Register and Alloc, and the context's.
func (d *Domain) MapWait(ctx context.Context, mem []byte, dir Direction, p Place) (Mapping, error) {
	n := uint64(len(mem))
	begin := probe.Begin(probe.Map)
	m, err := d.mapWait(ctx, mem, dir, p)
	if begin != 0 {
		d.subject.tellMap(begin, m, n, dir, err)
	}
	if err != nil {
		return Mapping{}, d.wrap(opMap, p.IOVA, n, err)
	}
	return m, nil
}

func (d *Domain) mapWait(ctx context.Context, mem []byte, dir Direction, p Place) (Mapping, error) {
	addr, n := addressOf(mem), uint64(len(mem))
	if n == 0 || !dir.valid() {
		return Mapping{}, wrong(n, dir)
	}
	in := uint64(addr & pageMask)
	if err := d.checkPlace(p, in+n); err != nil {
		return Mapping{}, err
	}
	// A region of a premapped domain lies where it lies.
	if r := d.find(addr, n); r != nil && (d.table != nil || p == (Place{})) {
		if r.dir&dir != dir {
			return Mapping{}, ErrDirection
		}
		return d.mapAt(ctx, r, uint64(addr-r.start), n, dir, p)
	}
	r, err := d.openRegion(ctx, pagesOf(mem), false, dir, forUse, p)
	if err != nil {
		return Mapping{}, err
	}
	m, err := d.mapOnce(ctx, r, in, n, dir, p)
	if err != nil {
		return Mapping{}, errors.Join(err, d.drop(r))
	}
	return m, nil
}

// drop closes a region that nobody was given. If that fails, the worker tries again.
func (d *Domain) drop(r *Region) error {
	r.single.Store(true)
	d.retire(r)
	return r.Close()
}

// mapOnce maps what was registered for this mapping only.
func (d *Domain) mapOnce(ctx context.Context, r *Region, off, n uint64, dir Direction, p Place) (Mapping, error) {
	if d.table != nil {
		m, err := d.mapAt(ctx, r, off, n, dir, p)
		if err == nil {
			r.single.Store(true)
		}
		return m, err
	}
	r.single.Store(true)
	part, err := d.retry(ctx, func() (Mapping, error) {
		return d.record(use{iova: r.iova + off, size: n, region: r.id, phase: phasePart, dir: dir})
	})
	if err != nil {
		return Mapping{}, err
	}
	d.flushLines(r, off, n)
	m, err := d.retry(ctx, func() (Mapping, error) {
		return d.record(use{iova: r.iova + off, size: n, phase: phaseLive, dir: dir, more: part.number})
	})
	if err != nil {
		d.giveRecord(part.number)
	}
	return m, err
}

// mapAt maps a part of a region at a place, or, in a premapped domain, where the region is.
func (d *Domain) mapAt(ctx context.Context, r *Region, off, n uint64, dir Direction, p Place) (Mapping, error) {
	return d.retry(ctx, func() (Mapping, error) {
		if d.table == nil {
			return d.recordIn(r, off, n, dir)
		}
		return d.mapWindow(ctx, r, off, n, dir, p)
	})
}

// retry calls f until it is not answered with ErrEmpty any more, or ctx ends.
func (d *Domain) retry(ctx context.Context, f func() (Mapping, error)) (Mapping, error) {
	for wait := pause; ; wait = min(2*wait, maxWait) {
		m, err := f()
		if !errors.Is(err, ErrEmpty) {
			return m, err
		}
		// What was unmapped may be what is missing.
		if err := d.flush(ctx); err != nil {
			return Mapping{}, err
		}
		select {
		case <-ctx.Done():
			return Mapping{}, errors.Join(ctx.Err(), err)
		case <-time.After(wait):
		}
	}
}

const maxWait = 5 * time.Millisecond

// mapWindow maps a part of a region in a window of its own, in a domain with tables.
func (d *Domain) mapWindow(ctx context.Context, r *Region, off, n uint64, dir Direction, p Place) (Mapping, error) {
	in := off & pageMask
	span := (in + n + pageMask) &^ pageMask
	q := p.request(span)
	if span >= tableSpan && !p.Fixed {
		q.Align = max(q.Align, tableSpan) // for superpages
	}
	w, err := d.space.AllocWait(ctx, q)
	if err != nil {
		return Mapping{}, placeError(err, p)
	}
	d.strays.Add(1)
	defer d.strays.Add(-1)
	if d.closed.Load() {
		return Mapping{}, errors.Join(ErrClosed, d.space.FreeWait(w))
	}
	rec := &d.records[w.Number]
	rec.begin(r.id)
	rec.win = w
	rec.set(kindWaited, dir, 0)
	if err := d.fill(rec, r, off-in, span, dir); err != nil {
		return Mapping{}, err
	}
	return d.show(rec, w.Start+in, n), nil
}

// request is what to ask an iova.Space for.
func (p Place) request(size uint64) iova.Request {
	q := iova.Request{Size: size, Align: p.Align, Boundary: p.Boundary, Fixed: p.Fixed, At: p.IOVA}
	if p.Mask != 0 {
		q.Below = p.Mask + 1
	}
	return q
}

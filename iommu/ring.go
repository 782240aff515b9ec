package iommu

import (
	"context"
	"slices"

	"gommu/internal/probe"
	"gommu/iommu/iova"
	"gommu/pagetable"
)

// A Ring is one goroutine's way into a domain: what it maps gets IOVAs one after the other in a range of its own, and what it unmaps is flushed by
// one invalidation at the end of a burst, whatever the domain's policy is. Until then the device
// may reach it. Only one goroutine at a time may use a Ring. Mappings are unmapped by the ring that made them, in any
// order; but one that stays for long keeps the room of all that came after it.
//
// In a premapped domain a Ring is the domain's own Map and Unmap.
type Ring struct {
	d     *Domain
	id    uint32
	space *iova.Ring // nil in a premapped domain
	burst int

	pending burst // what was unmapped since the last flush
	telling bool  // Map is called by mapTraced
}

// RingOptions configure a Ring.
type RingOptions struct {
	Size  uint64 // bytes of IOVA space; 0 is 4 MiB
	Burst int    // unmaps after which Unmap flushes by itself; 0 is 256
}

const (
	defaultRing  = 4 << 20
	defaultBurst = 256
)

// NewRing returns a ring of up to as many mappings as it has pages. Close it before the domain. It may sleep.
func (d *Domain) NewRing(ctx context.Context, opts RingOptions) (*Ring, error) {
	d.life.Lock()
	defer d.life.Unlock()
	fail := func(err error) (*Ring, error) {
		return nil, &OpError{Op: opRing, Domain: d.opts.Name, Size: opts.Size, Err: err}
	}
	if d.closed.Load() {
		return fail(ErrClosed)
	}
	if opts.Burst < 0 {
		return fail(ErrOptions)
	}
	if opts.Size == 0 {
		opts.Size = defaultRing
	}
	if opts.Burst == 0 {
		opts.Burst = defaultBurst
	}
	r := &Ring{d: d, burst: opts.Burst}
	if d.table != nil {
		var err error
		if r.space, err = d.space.NewRing(ctx, opts.Size, int(opts.Size/pageSize)); err != nil {
			return fail(err)
		}
	}
	d.addRing(r)
	return r, nil
}

// addRing gives a ring its number, from 1 on: its place in the list.
func (d *Domain) addRing(r *Ring) {
	all := slices.Clone(*d.rings.Load())
	i := slices.Index(all, nil)
	if i < 0 {
		i = len(all)
		all = append(all, nil)
	}
	all[i] = r
	r.id = uint32(i + 1)
	d.rings.Store(&all)
}

// ring is the ring that a record is of.
//
//gommu:nosleep
func (d *Domain) ring(rec *record) *Ring { return (*d.rings.Load())[rec.aux-1] }

// Map is Domain.Map. If the ring has no room it flushes first.
//
//gommu:nosleep
func (r *Ring) Map(mem []byte, dir Direction) (Mapping, error) {
	d, n := r.d, uint64(len(mem))
	if r.id == 0 {
		return Mapping{}, d.refuse(opMap, Mapping{size: n}, ErrClosed)
	}
	if d.table == nil {
		return d.Map(mem, dir)
	}
	if probe.On(probe.Map) && !r.telling {
		return r.mapTraced(mem, dir)
	}
	if n == 0 || !dir.valid() {
		return Mapping{}, d.refuse(opMap, Mapping{size: n}, wrong(n, dir))
	}
	addr := addressOf(mem)
	reg := d.find(addr, n)
	switch {
	case reg == nil:
		return Mapping{}, d.refuse(opMap, Mapping{size: n}, ErrNotRegistered)
	case reg.dir&dir != dir:
		return Mapping{}, d.refuse(opMap, Mapping{size: n}, ErrDirection)
	}
	in := uint64(addr) & pageMask
	span := (in + n + pageMask) &^ pageMask
	rec, err := r.window(span, reg, dir)
	if err != nil {
		return Mapping{}, err
	}
	if err := d.fill(rec, reg, uint64(addr-reg.start)-in, span, dir); err != nil {
		return Mapping{}, err
	}
	return d.show(rec, rec.win.Start+in, n), nil
}

// MapSG is Domain.MapSG.
//
//gommu:nosleep
func (r *Ring) MapSG(list [][]byte, dir Direction, l ListLimits, out []Piece) (Mapping, int, error) {
	if r.id == 0 {
		return Mapping{}, 0, r.d.refuse(opMapSG, Mapping{}, ErrClosed)
	}
	if begin := probe.Begin(probe.Map); begin != 0 {
		return r.d.listTraced(begin, r, list, dir, l, out)
	}
	return r.d.mapList(r, list, dir, l, out)
}

// window takes the next window.
//
//gommu:nosleep
func (r *Ring) window(span uint64, reg *Region, dir Direction) (*record, error) {
	rec, err := r.tryWindow(span, reg, dir)
	if rec == nil && r.pending.count > 0 && err != r.d.errs.closed {
		if err := r.Flush(); err != nil {
			return nil, err
		}
		return r.tryWindow(span, reg, dir)
	}
	return rec, err
}

// tryWindow is pinned, as all are who take windows, so that Close knows when they are through.
//
//gommu:nosleep
func (r *Ring) tryWindow(span uint64, reg *Region, dir Direction) (*record, error) {
	d := r.d
	s := d.pin()
	if s == nil {
		d.strays.Add(1)
		rec, err := r.take(span, reg)
		d.strays.Add(-1)
		if err != nil {
			return nil, err
		}
		r.own(rec, dir)
		return rec, nil
	}
	rec, err := r.take(span, reg)
	s.unpin()
	if err != nil {
		return nil, err
	}
	r.own(rec, dir)
	return rec, nil
}

//gommu:nosleep
func (r *Ring) own(rec *record, dir Direction) {
	rec.set(kindRing, dir, 0)
	rec.aux = r.id
}

//gommu:nosleep
func (r *Ring) take(span uint64, reg *Region) (*record, error) {
	if r.d.closed.Load() {
		return nil, r.d.errs.closed
	}
	w, err := r.space.Alloc(span)
	if err != nil {
		return nil, err
	}
	rec := &r.d.records[w.Number]
	rec.begin(reg.id)
	rec.win = w
	return rec, nil
}

// Unmap is Domain.Unmap, but that the devices may reach the memory until the next Flush, or until as many are unmapped as
// RingOptions.Burst says: then it flushes by itself.
//
//gommu:nosleep
func (r *Ring) Unmap(m Mapping) error {
	d := r.d
	if r.id == 0 {
		return d.refuse(opUnmap, m, ErrClosed)
	}
	if d.table == nil {
		return d.Unmap(m)
	}
	if begin := probe.Begin(probe.Unmap); begin != 0 {
		return r.unmapTraced(begin, m)
	}
	rec, err := d.claim(m, r.id)
	if err != nil {
		return err
	}
	return d.remove(rec)
}

//gommu:nosleep
func (r *Ring) remove(rec *record) error {
	var none pagetable.Batch // stays without tables: those of a ring are held
	w := rec.win
	if _, err := r.d.table.Unmap(w.Start, w.Size, &none); err != nil {
		return err
	}
	if check := r.d.check; check != nil {
		check.unmapped(r.d, rec, none.Tables() != 0) //gommu:trust Options.Check is for tests
	}
	r.d.waitParts(rec)
	r.pending.add(rec)
	if r.pending.count >= r.burst {
		return r.Flush()
	}
	return nil
}

// Flush ends a burst: it waits, spinning, until devices reach nothing of what was unmapped. If a unit does not answer it
// fails with ErrFlush, and may be called again.
//
//gommu:nosleep
func (r *Ring) Flush() error {
	d := r.d
	p := &r.pending
	if p.count == 0 {
		return nil
	}
	if keep(stepBurst) && !d.flusher.forget(p, true) {
		return d.errs.flush
	}
	for n := p.head; n != 0; {
		rec := &d.records[n]
		n = rec.next
		r.finish(rec)
	}
	*p = burst{}
	return nil
}

// finish gives a record and its window back.
//
//gommu:nosleep
func (r *Ring) finish(rec *record) {
	if r.d.check != nil {
		r.d.check.freed(rec, false) //gommu:trust Options.Check is for tests
	}
	r.d.finishMore(nil, rec)
	w := rec.win
	rec.end()
	_ = r.space.Free(w) // it is out: the record says so
}

// Close flushes and gives the range back. While mappings of the ring are live it fails with ErrMapped. It may sleep.
func (r *Ring) Close() error {
	r.d.life.Lock()
	defer r.d.life.Unlock()
	if err := r.close(); err != nil {
		return &OpError{Op: opRing, Domain: r.d.opts.Name, Err: err}
	}
	return nil
}

func (r *Ring) close() error {
	d := r.d
	if r.id == 0 {
		return nil
	}
	if d.table != nil {
		if d.liveOf(r) > 0 {
			return ErrMapped
		}
		if err := r.flushWait(); err != nil {
			return err
		}
		if err := r.space.Close(); err != nil {
			return err
		}
	}
	all := slices.Clone(*d.rings.Load())
	all[r.id-1] = nil
	d.rings.Store(&all)
	r.id = 0
	return nil
}

// flushWait is Flush for those who may sleep: it gets units that failed going.
func (r *Ring) flushWait() error {
	if r.d.flusher.failed.Load() {
		if err := r.d.flusher.recover(); err != nil {
			return err
		}
	}
	return r.Flush()
}

// liveOf counts the live mappings of a ring.
func (d *Domain) liveOf(r *Ring) (n int) {
	for i := range d.records {
		if m, ok := d.live(uint32(i)); ok && r.space.Start() <= m.iova && m.iova-r.space.Start() < r.space.Size() {
			n++
		}
	}
	return n
}

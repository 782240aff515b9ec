package iommu

import (
	"strconv"

	"gommu/internal/probe"
)

// A Piece is a run of IOVAs for one entry of a device's list.
type Piece struct{ IOVA, Size uint64 }

// ListLimits are what a device's list can hold.
type ListLimits struct {
	MaxPiece uint64 // bytes of a piece at most; 0 is no limit
	Boundary uint64 // that no piece crosses, a power of two; 0 is none
}

// MapSG maps a list of pieces of registered memory, and, in a premapped domain with bounce buffers, of
// foreign memory, as one mapping, and puts what the device is to be told into out:
// in the order of the list, those that follow each other on page boundaries merged, and split
// where the limits ask for it. It returns how many of out it used. It is all or nothing: if out is too short it
// fails with ErrPieces, and says in Detail how many there are. The mapping's IOVA is that
// of the first piece, its size that of all memory. Unmap takes all of it away.
//
//gommu:nosleep
func (d *Domain) MapSG(list [][]byte, dir Direction, l ListLimits, out []Piece) (Mapping, int, error) {
	if begin := probe.Begin(probe.Map); begin != 0 {
		return d.listTraced(begin, nil, list, dir, l, out)
	}
	return d.mapList(nil, list, dir, l, out)
}

//gommu:nosleep
func (d *Domain) mapList(ring *Ring, list [][]byte, dir Direction, l ListLimits, out []Piece) (Mapping, int, error) {
	if d.table == nil {
		return d.mapListPremapped(list, dir, l, out)
	}
	first, size, span, err := d.measure(list, dir)
	if err == nil && l.Boundary&(l.Boundary-1) != 0 {
		err = ErrSegment
	}
	if err == nil && span > maxMap {
		err = ErrTooLarge
	}
	if err != nil {
		return Mapping{}, 0, d.refuse(opMapSG, Mapping{size: size}, err)
	}
	var rec *record
	switch {
	case ring != nil:
		rec, err = ring.window(span, first, dir)
	default:
		if rec, err = d.takeWindow(span, first.id); err == nil {
			rec.set(kindPooled, dir, 0)
		}
	}
	if err == nil {
		err = d.prepare(rec, first)
	}
	if err != nil {
		return Mapping{}, 0, err
	}
	return d.mapPieces(rec, first, list, dir, pieces{limits: l, out: out}, size)
}

// mapPieces is mapList with a record that has its window.
//
//gommu:nosleep
func (d *Domain) mapPieces(rec *record, first *Region, list [][]byte, dir Direction, p pieces, size uint64) (Mapping, int, error) {
	if err := d.layOut(rec, first, list, dir, &p); err != nil {
		d.abandon(rec)
		return Mapping{}, 0, err
	}
	if n := p.end(); n > len(p.out) {
		d.abandon(rec)
		return Mapping{}, 0, d.tooMany(size, n)
	}
	if d.check != nil {
		d.check.mapped(rec.win.Start, rec.win.Size) //gommu:trust Options.Check is for tests
	}
	if err := d.writeList(rec, list, dir); err != nil {
		return Mapping{}, 0, err
	}
	return d.show(rec, p.out[0].IOVA, size), p.n, nil
}

// measure checks a list and adds it up: its bytes, and those of the pages that it lies in. first is
// the region of its first piece.
//
//gommu:nosleep
func (d *Domain) measure(list [][]byte, dir Direction) (first *Region, size, span uint64, err error) {
	if len(list) == 0 {
		return nil, 0, 0, ErrZeroSize
	}
	for _, mem := range list {
		n, addr := uint64(len(mem)), addressOf(mem)
		size += n
		if n == 0 || !dir.valid() {
			return nil, 0, 0, wrong(n, dir)
		}
		r := d.find(addr, n)
		switch {
		case r == nil:
			return nil, size, 0, ErrNotRegistered
		case r.dir&dir != dir:
			return nil, size, 0, ErrDirection
		case first == nil:
			first = r
		}
		span += (uint64(addr)&pageMask + n + pageMask) &^ pageMask
	}
	return first, size, span, nil
}

// layOut finds the IOVAs of a list and chains records for the regions that it lies in besides the first.
//
//gommu:nosleep
func (d *Domain) layOut(rec *record, first *Region, list [][]byte, dir Direction, p *pieces) error {
	at, region, last := rec.win.Start, first, rec
	for _, mem := range list {
		n, addr := uint64(len(mem)), addressOf(mem)
		r := d.find(addr, n)
		if r == nil || r.dir&dir != dir {
			return d.refuse(opMapSG, Mapping{size: n}, ErrNotRegistered) // it was closed meanwhile
		}
		if r != region {
			number, err := d.takeExtra(r.id)
			if err != nil {
				return err
			}
			next := &d.records[number]
			next.set(kindExtra, dir, 0)
			next.state.Add(phasePart - phaseMapping)
			last.more = number
			if r.closing.Load() {
				return d.refuse(opMapSG, Mapping{size: n}, ErrNotRegistered)
			}
			region, last = r, next
		}
		in := uint64(addr) & pageMask
		p.add(at+in, n)
		at += (in + n + pageMask) &^ pageMask
	}
	return nil
}

// writeList writes the entries of a list, whose regions the record and those chained to it hold.
//
//gommu:nosleep
func (d *Domain) writeList(rec *record, list [][]byte, dir Direction) (err error) {
	w := writer{t: d.table, at: rec.win.Start, prot: d.prot(dir)}
	for _, mem := range list {
		n, addr := uint64(len(mem)), addressOf(mem)
		r, in := d.find(addr, n), uint64(addr)&pageMask
		if r == nil {
			err = d.errs.gone // its region was closed meanwhile
			break
		}
		d.flushLines(r, uint64(addr-r.start), n)
		if err = w.add(r, uint64(addr-r.start)-in, (in+n+pageMask)&^pageMask); err != nil {
			break
		}
	}
	if err == nil {
		err = w.flush()
	}
	return d.written(rec, w.at-rec.win.Start, err)
}

// tooMany says how many pieces there would be.
//
//gommu:refusal
func (d *Domain) tooMany(size uint64, n int) error {
	return &OpError{Op: opMapSG, Domain: d.opts.Name, Size: size, Err: ErrPieces, Detail: "it needs " + strconv.Itoa(n)}
}

// pieces gathers runs of IOVAs.
type pieces struct {
	limits ListLimits
	out    []Piece
	n      int // those that were needed, which may be more than there is room for

	iova, size uint64 // the run at hand
}

// add adds n bytes at iova.
//
//gommu:nosleep
func (p *pieces) add(iova, n uint64) {
	if p.size != 0 && p.iova+p.size == iova {
		p.size += n
		return
	}
	p.cut()
	p.iova, p.size = iova, n
}

// end returns how many pieces there are.
//
//gommu:nosleep
func (p *pieces) end() int {
	p.cut()
	return p.n
}

// cut puts the run at hand into out, in as many pieces as the limits ask for.
//
//gommu:nosleep
func (p *pieces) cut() {
	for p.size > 0 {
		n := p.size
		if m := p.limits.MaxPiece; m != 0 {
			n = min(n, m)
		}
		if b := p.limits.Boundary; b != 0 {
			n = min(n, b-p.iova&(b-1))
		}
		if p.n < len(p.out) {
			p.out[p.n] = Piece{p.iova, n}
		}
		p.n++
		p.iova += n
		p.size -= n
	}
}

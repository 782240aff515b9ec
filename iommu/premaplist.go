package iommu

// mapListPremapped is MapSG in a premapped domain. A list that lies in one region is one record, as anything else that does; another
// one has a record that shows none, and a part for each of its pieces.
//
//gommu:nosleep
func (d *Domain) mapListPremapped(list [][]byte, dir Direction, l ListLimits, out []Piece) (Mapping, int, error) {
	size, r, err := d.total(list, dir)
	if err == nil && l.Boundary&(l.Boundary-1) != 0 {
		err = ErrSegment
	}
	if err == nil && size > maxMap {
		err = ErrTooLarge
	}
	if err != nil {
		return Mapping{}, 0, d.refuse(opMapSG, Mapping{size: size}, err)
	}
	p := pieces{limits: l, out: out}
	if r != nil && !d.opts.NonCoherent {
		return d.mapListIn(r, list, dir, p, size)
	}
	first, err := d.chain(list, dir, &p)
	if n := p.end(); err == nil && n > len(out) {
		if first != 0 {
			d.endParts(first, 0)
		}
		return Mapping{}, 0, d.tooMany(size, n)
	}
	var m Mapping
	if err == nil {
		m, err = d.record(use{iova: out[0].IOVA, size: size, phase: phaseLive, dir: dir, more: first})
	}
	if err != nil {
		if first != 0 {
			d.endParts(first, 0)
		}
		return Mapping{}, 0, err
	}
	return m, p.n, nil
}

// total checks a list, and returns its size and the region that has all of it, if one does.
//
//gommu:nosleep
func (d *Domain) total(list [][]byte, dir Direction) (size uint64, only *Region, err error) {
	if len(list) == 0 {
		return 0, nil, ErrZeroSize
	}
	for i, mem := range list {
		n := uint64(len(mem))
		if n == 0 || !dir.valid() {
			return size, nil, wrong(n, dir)
		}
		size += n
		r := d.find(addressOf(mem), n)
		switch {
		case r == nil && d.bounce == nil:
			return size, nil, ErrNotRegistered
		case r == nil && bounceClass(mem) == bounceClasses:
			return size, nil, ErrBounce
		case r != nil && r.dir&dir != dir:
			return size, nil, ErrDirection
		case i == 0:
			only = r
		case r != only:
			only = nil
		}
	}
	return size, only, nil
}

// mapListIn maps a list that lies in one region.
//
//gommu:nosleep
func (d *Domain) mapListIn(r *Region, list [][]byte, dir Direction, p pieces, size uint64) (Mapping, int, error) {
	for _, mem := range list {
		p.add(r.iova+uint64(addressOf(mem)-r.start), uint64(len(mem)))
	}
	if n := p.end(); n > len(p.out) {
		return Mapping{}, 0, d.tooMany(size, n)
	}
	m, err := d.record(use{iova: p.out[0].IOVA, size: size, region: r.id, phase: phaseLive, dir: dir})
	if err != nil {
		return Mapping{}, 0, err
	}
	if r.closing.Load() {
		d.giveRecord(m.number)
		return Mapping{}, 0, d.refuse(opMapSG, m, ErrNotRegistered)
	}
	return m, p.n, nil
}

// chain makes the parts of a list. If it fails, those that it has made are the ones that first begins.
//
//gommu:nosleep
func (d *Domain) chain(list [][]byte, dir Direction, p *pieces) (first uint32, err error) {
	var last *record
	off := uint64(0)
	for _, mem := range list {
		m, err := d.part(mem, off, dir)
		if err != nil {
			return first, err
		}
		if last == nil {
			first = m.number
		} else {
			last.more = m.number
		}
		last = &d.records[m.number]
		p.add(m.iova, m.size)
		off += m.size
	}
	return first, nil
}

// part makes the part for mem, off bytes into a list.
//
//gommu:nosleep
func (d *Domain) part(mem []byte, off uint64, dir Direction) (Mapping, error) {
	u := use{size: uint64(len(mem)), off: off, phase: phasePart, dir: dir}
	addr := addressOf(mem)
	r := d.find(addr, u.size)
	if r == nil {
		return d.bouncedPart(mem, u)
	}
	at := uint64(addr - r.start)
	u.iova, u.region = r.iova+at, r.id
	m, err := d.record(u)
	if err != nil {
		return Mapping{}, err
	}
	if r.closing.Load() {
		d.giveRecord(m.number)
		return Mapping{}, d.refuse(opMapSG, m, ErrNotRegistered)
	}
	d.flushLines(r, at, u.size)
	return m, nil
}

// bouncedPart is part for foreign memory.
//
//gommu:nosleep
func (d *Domain) bouncedPart(mem []byte, u use) (Mapping, error) {
	if d.bounce == nil {
		return Mapping{}, d.refuse(opMapSG, Mapping{size: u.size}, ErrNotRegistered) // its region was closed meanwhile
	}
	x, err := d.bounce.take(mem, u.off)
	if err != nil {
		return Mapping{}, err
	}
	d.flushLines(x.r, x.off, u.size)
	u.iova, u.slot = x.r.iova+x.off, uint32(x.slot)+1
	m, err := d.record(u)
	if err != nil {
		d.bounce.free(uint32(x.slot))
	}
	return m, err
}

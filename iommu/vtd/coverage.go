package vtd

import "gommu/pagetable"

// A coverage is what has to be told of a range of a domain's IOVAs: to the unit,
// by PASID in a first stage, and to devices that have TLBs. It never changes;
// each attach and detach makes a new one.
type coverage struct {
	firstStage bool
	pasids     []uint32
	devices    []request // without the range
}

// cover makes a domain's coverage what is attached now, and what is about to be.
func (u *Unit) cover(domainID uint16, coming ...place) {
	b := u.bindings[domainID]
	if b == nil {
		return
	}
	c := &coverage{firstStage: b.table.Stage() == pagetable.FirstStage}
	seen := make(map[uint32]bool)
	add := func(at place) {
		if !seen[at.pasid] && c.firstStage {
			seen[at.pasid] = true
			c.pasids = append(c.pasids, at.pasid)
		}
		if r, ok := u.ofDevice(at, 0, 0); ok {
			c.devices = append(c.devices, r)
		}
	}
	for at, id := range u.entries {
		if id == domainID {
			add(at)
		}
	}
	for at, id := range u.silent {
		if id == domainID && u.hasContext(at.source) {
			add(at)
		}
	}
	for _, at := range coming {
		add(at)
	}
	b.covered.Store(c)
}

// coverAll does that for all domains.
func (u *Unit) coverAll() {
	for id := range u.bindings {
		u.cover(id)
	}
}

// descriptors is how many a flush of the domain needs at most: with the wait, and
// a fence before what devices are told.
//
//gommu:nosleep
func (c *coverage) descriptors() int {
	n := max(len(c.pasids), 1) + 1
	if len(c.devices) > 0 {
		n += 1 + len(c.devices)
	}
	return n
}

package iommu

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
)

// regionTable finds the regions of a domain. Readers see a snapshot that never changes.
type regionTable struct {
	gate sync.RWMutex // held for reading while a region is set up: Close waits for these

	mu  sync.Mutex // of who replaces the snapshot
	now atomic.Pointer[regionSet]
}

// init makes the table empty.
func (t *regionTable) init() { t.now.Store(&regionSet{byID: make([]*Region, 1)}) }

// A regionSet is a snapshot of a table.
type regionSet struct {
	spans []regionSpan // by address, disjoint: what find looks at
	byID  []*Region    // all, nil where an id is free; 0 is no region's
}

type regionSpan struct {
	start, size uintptr
	r           *Region // nil while it is set up, and while Close looks whether it is in use

	// What mapQuick wants to know of r.
	iova uint64
	show uint64    // what the state of a live record says of it
	dir  Direction // none without r
}

// find is the region that size bytes at start lie in, or nil. size is not 0, and start+size does not wrap.
//
//gommu:nosleep
func (t *regionTable) find(start, size uintptr) *Region {
	spans := t.now.Load().spans
	for len(spans) > 1 {
		if mid := len(spans) / 2; start < spans[mid].start {
			spans = spans[:mid]
		} else {
			spans = spans[mid:]
		}
	}
	if len(spans) == 0 {
		return nil
	}
	s := &spans[0]
	// start below the first region gives a huge offset.
	if off := start - s.start; off >= s.size || size > s.size-off {
		return nil
	}
	return s.r
}

// get is the region with this id, or nil.
//
//gommu:nosleep
func (t *regionTable) get(id uint32) *Region {
	if all := t.now.Load().byID; uint(id) < uint(len(all)) {
		return all[id]
	}
	return nil
}

// add gives r an id and, if it is to be found by its address, takes that. It fails with ErrRegistered.
func (t *regionTable) add(r *Region) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	next := t.copy()
	if r.purpose == forAll {
		s := regionSpan{start: r.start, size: uintptr(r.size)}
		i, _ := slices.BinarySearchFunc(next.spans, s.start, func(s regionSpan, at uintptr) int { return cmp.Compare(s.start, at) })
		if i < len(next.spans) && next.spans[i].start-s.start < s.size || i > 0 && s.start-next.spans[i-1].start < next.spans[i-1].size {
			return ErrRegistered
		}
		next.spans = slices.Insert(next.spans, i, s)
	}
	id := slices.Index(next.byID[1:], nil) + 1
	if id == 0 {
		id = len(next.byID)
		next.byID = append(next.byID, nil)
	}
	r.id = uint32(id)
	next.byID[id] = r
	t.now.Store(next)
	return nil
}

// hide has find not find r any more. Who has found it before may still be about to use it.
func (t *regionTable) hide(r *Region) { t.reveal(r, nil, 0) }

// show lets find find r, all of which is set up: from now on nothing of it but its atomic fields changes.
func (t *regionTable) show(r *Region) { t.reveal(r, r, r.dir) }

func (t *regionTable) reveal(r, as *Region, dir Direction) {
	if r.purpose != forAll {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	next := t.copy()
	for i := range next.spans {
		if next.spans[i].start == r.start {
			s := &next.spans[i]
			s.r, s.iova, s.show, s.dir = as, r.iova, uint64(r.id)<<regionShift|phaseLive, dir
		}
	}
	t.now.Store(next)
}

// remove takes r out; its id can be another's then.
func (t *regionTable) remove(r *Region) {
	t.mu.Lock()
	defer t.mu.Unlock()
	next := t.copy()
	if r.purpose == forAll {
		next.spans = slices.DeleteFunc(next.spans, func(s regionSpan) bool { return s.start == r.start })
	}
	next.byID[r.id] = nil
	t.now.Store(next)
}

// all are the regions that there are now.
func (t *regionTable) all() []*Region {
	return slices.DeleteFunc(slices.Clone(t.now.Load().byID), func(r *Region) bool { return r == nil })
}

// copy is a snapshot to be changed.
func (t *regionTable) copy() *regionSet {
	set := t.now.Load()
	return &regionSet{spans: slices.Clone(set.spans), byID: slices.Clone(set.byID)}
}

// find is the region that has all of size bytes from addr on, or nil. It counts for nothing: the region may be
// closed at any time.
//
//gommu:nosleep
func (d *Domain) find(addr uintptr, size uint64) *Region { return d.regions.find(addr, uintptr(size)) }

// waitOpen returns when all regions that were being set up are.
func (t *regionTable) waitOpen() {
	t.gate.Lock()
	defer t.gate.Unlock()
}

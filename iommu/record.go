package iommu

import "gommu/iommu/iova"

// A record is what the domain knows of a mapping. It is one cache line without pointers, and lies
// in one slice, by number. Who moved its state out of live, or has its window from the
// space, is the only one to touch it; the state, the IOVA and the size are
// read by others too.
type record struct {
	// state has, from bit 0 on, the phase (8 bits), the id of the region (24) and the generation (32), which
	// counts the uses of the record. So one swap ends a mapping, once.
	state edge

	iova word
	size word
	win  iova.Window // none in a premapped domain, and in records that continue another one

	next  uint32 // of the list that the record is in
	more  uint32 // the record that continues this one: lists lie in several regions
	aux   uint32 // kinds pooled and waited: batch slot plus 1, or 0; of a ring: its number
	flags uint32 // direction (2 bits), kind (6), bounce slot plus 1 or 0 (24)
}

// The phases of a record. What is neither free nor live is on its way.
const (
	phaseFree      = iota
	phaseMapping   // inside a Map
	phaseLive      // between Map and Unmap
	phaseUnmapping // inside an Unmap, or waiting for a flush
	phaseMask      = 0xff
)

const (
	regionShift     = 8
	regionMask      = 1<<24 - 1
	generationShift = 32
)

// The kinds of records say where a record and its window come from and go to.
const (
	kindPooled = iota // a window of the pools
	kindRing          // a window of a ring
	kindWaited        // a window that only calls that may sleep hand out and take back
	kindExtra         // no window: premapped, or the continuation of another record
	kindShift  = 2
	kindMask   = 0x3f
	bounceBits = 8
)

func (r *record) kind() uint32 { return r.flags >> kindShift & kindMask }

func (r *record) direction() Direction { return Direction(r.flags & 3) }

// bounce is the slot of the bounce buffer, if there is one.
func (r *record) bounce() (slot uint32, ok bool) {
	n := r.flags >> bounceBits
	return n - 1, n != 0
}

// simple says that a record has nothing but a window of the pools: no bounce buffer, no batch, no other records.
//
//gommu:nosleep
func (r *record) simple() bool { return r.flags>>kindShift|r.aux|r.more == 0 }

// set says what the record is for. A bounce buffer's slot comes plus 1.
//
//gommu:nosleep
func (r *record) set(kind uint32, dir Direction, bounce uint32) {
	r.flags = bounce<<bounceBits | kind<<kindShift | uint32(dir)
	r.more, r.aux = 0, 0
}

// begin starts another use of a free record, in a region. The store is one that the
// loads after it are not done before.
//
//gommu:nosleep
func (r *record) begin(region uint32) {
	g := r.state.Load()>>generationShift + 1
	r.state.Store(g<<generationShift | uint64(region)<<regionShift | phaseMapping)
}

// goLive ends the phase mapping, and returns what a Mapping has of the state.
//
//gommu:nosleep
func (r *record) goLive() (generation uint32) {
	s := r.state.Load() + (phaseLive - phaseMapping)
	r.state.Store(s)
	return uint32(s >> generationShift)
}

// end makes the record free.
//
//gommu:nosleep
func (r *record) end() {
	r.state.Store(r.state.Load() >> generationShift << generationShift)
}

func phaseOf(state uint64) uint64 { return state & phaseMask }

func regionOf(state uint64) uint32 { return uint32(state >> regionShift & regionMask) }

// claim takes a live mapping away: whoever else tries gets ErrNotMapped. It
// checks that m is all of what was mapped, by kind of record.
//
//gommu:nosleep
func (d *Domain) claim(m Mapping, ring uint32) (*record, error) {
	if uint(m.number) >= uint(len(d.records)) {
		return nil, d.refuse(opUnmap, m, ErrNotMapped)
	}
	r := &d.records[m.number]
	s := r.state.Load()
	if uint32(s>>generationShift)+d.salt != m.generation || phaseOf(s) != phaseLive {
		return nil, d.refuse(opUnmap, m, ErrNotMapped)
	}
	if r.iova.get() != m.iova || r.size.get() != m.size { // of this use of the record, if the swap succeeds
		return nil, d.refuse(opUnmap, m, ErrPart)
	}
	if !r.state.CompareAndSwap(s, s+(phaseUnmapping-phaseLive)) {
		return nil, d.refuse(opUnmap, m, ErrNotMapped)
	}
	if (r.kind() == kindRing) == (ring != 0) && (ring == 0 || r.aux == ring) {
		return r, nil
	}
	r.state.Store(s)
	return nil, d.refuse(opUnmap, m, errOtherRing)
}

// lookup is the record of a live mapping, for calls that leave it so.
//
//gommu:nosleep
func (d *Domain) lookup(m Mapping) *record {
	if uint(m.number) >= uint(len(d.records)) {
		return nil
	}
	r := &d.records[m.number]
	s := r.state.Load()
	if uint32(s>>generationShift)+d.salt != m.generation || phaseOf(s) != phaseLive || r.iova.get() != m.iova || r.size.get() != m.size {
		return nil
	}
	return r
}

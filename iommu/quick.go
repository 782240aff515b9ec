package iommu

import (
	"gommu/internal/probe"
	"gommu/internal/procpin"
)

// Map and Unmap of a premapped domain for the case that is nearly all: memory of one region, a free record of the processor's own, no
// cache lines to flush. They do what mapPremapped and unmapPremapped do, in fewer instructions: these count where the
// processor is emulated, and the calls of a kernel are what they are measured by.
//
// Each shard has some records for itself. It takes the one that it took last, if that is free again, or one of those that follow; to
// free one is one swap, whoever does it.
//
// No fence orders the record that Map writes and the region that it has found, as elsewhere the flag closing does. Map does both while it is
// pinned; so Region.Close hides the region, has the world stop once, and finds all records that there will be.

const (
	ownRecords = 512 // a shard, a power of two
	ownTries   = 4
)

// Map lets the devices reach mem, which lies in registered memory: the whole 4096-byte pages that it lies
// in. Foreign memory goes through a bounce buffer if the domain has them. In a
// first-stage table what the device may write it may read too. Map never sleeps; when what it
// needs is not ready it answers with an error that is ErrEmpty, at once.
//
//gommu:nosleep
func (d *Domain) Map(mem []byte, dir Direction) (Mapping, error) {
	if probe.On(probe.Map) {
		return d.mapTraced(mem, dir)
	}
	if !d.quick {
		return d.mapAny(mem, dir)
	}
	i := procpin.Pin()
	set := d.regions.now.Load()
	if uint(i) < uint(len(d.shards)) && !d.closed.Load() && len(set.spans) > 0 {
		s, spans, at := &d.shards[i], set.spans, addressOf(mem)
		for len(spans) > 1 {
			if mid := len(spans) / 2; at < spans[mid].start {
				spans = spans[:mid]
			} else {
				spans = spans[mid:]
			}
		}
		p, size := &spans[0], uintptr(len(mem))
		n := s.at
		rec := &d.records[n]
		state := rec.state.Load()
		if phaseOf(state) != phaseFree {
			if rec = d.another(s); rec == nil {
				procpin.Unpin()
				return d.mapAny(mem, dir)
			}
			n, state = s.at, rec.state.Load()
		}
		// A size of 0, and an address below the region, wrap.
		if off := at - p.start; off < p.size && size-1 < p.size-off && dir&^p.dir == 0 && dir != 0 && size <= maxMap {
			iova := p.iova + uint64(off)
			rec.iova.set(iova)
			rec.size.set(uint64(size))
			rec.flags = kindExtra<<kindShift | uint32(dir) // more and aux of these records are 0
			state += 1 << generationShift
			rec.state.set(state | p.show)
			s.maps.add(1)
			procpin.Unpin()
			return Mapping{iova: iova, size: uint64(size), number: n, generation: uint32(state>>generationShift) + d.salt}, nil
		}
	}
	procpin.Unpin()
	return d.mapAny(mem, dir)
}

// another finds a free record of the shard's, or none after some tries.
//
//gommu:nosleep
func (d *Domain) another(s *shard) *record {
	first := (s.at-1)&^(ownRecords-1) + 1
	for range ownTries {
		s.at = first + (s.at-first+1)&(ownRecords-1)
		if rec := &d.records[s.at]; phaseOf(rec.state.Load()) == phaseFree {
			return rec
		}
	}
	return nil
}

// Unmap takes a mapping away. In a strict domain the devices do not reach it any more when Unmap returns:
// it spins until the units say so. In a batched one they may until the flush, which is bounded by
// Flush. In a premapped one they reach what is registered, as before.
//
// Unmap never sleeps. An error that is ErrFlush says that a unit does not answer: the mapping is
// gone, but the devices may reach the memory until Domain.Flush succeeds.
// With any other error nothing has changed.
//
//gommu:nosleep
func (d *Domain) Unmap(m Mapping) error {
	if probe.On(probe.Unmap) {
		return d.unmapTraced(m)
	}
	if uint(m.number)-1 < uint(d.owned) {
		rec := &d.records[m.number]
		state := rec.state.Load()
		live := uint64(m.generation-d.salt)<<generationShift | phaseLive
		if (state^live)&^(regionMask<<regionShift) == 0 && rec.iova.get() == m.iova && rec.size.get() == m.size &&
			rec.state.CompareAndSwap(state, live-phaseLive) {
			return nil
		}
	}
	return d.unmapAny(m)
}

package vtd

import (
	"errors"
	"sync/atomic"

	"gommu/pagetable"
)

// Root and context entries of legacy mode are 16 bytes (sections 9.1 and 9.3).
// Low half of both: P is bit 0, the next table's address bits 63:12; of a
// context entry also the translation type, bits 3:2. High half of a context
// entry: address width bits 2:0 (levels-2), domain id bits 23:8.
const (
	entryPresent       = 1 << 0
	contextDeviceTLB   = 1 << 2 // untranslated requests, and requests for translations
	contextPassThrough = 2 << 2
	contextDomain      = 8
)

// contextEntry is the context entry of a requester id, or nil if its bus has no
// table. In legacy mode a table holds 256 entries of 2 words; in scalable mode
// 128 of 4, and a root entry leads to two tables, the upper for functions from
// 16.0 on (section 9.2).
func (u *Unit) contextEntry(source uint16) []uint64 {
	t := u.contexts[u.rootWord(source)]
	if t == nil {
		return nil
	}
	if u.opts.Mode == Scalable {
		return t[4*(source&0x7f):][:4]
	}
	return t[2*(source&0xff):][:2]
}

// rootWord is the index of the word of the root table that leads to a requester
// id's context table.
func (u *Unit) rootWord(source uint16) int {
	if u.opts.Mode == Scalable {
		return int(source >> 7)
	}
	return int(source >> 8 * 2)
}

// linkContexts puts a new context table into the root table.
func (u *Unit) linkContexts(source uint16, f pagetable.Frame) {
	i := u.rootWord(source)
	u.contexts[i] = u.mem.Entries(f)
	u.setWord(flushRootEntry, u.mem.Entries(u.root)[i:], f.Bus|entryPresent)
}

// setWord stores the first word of an entry, which makes it present or not.
func (u *Unit) setWord(flush point, entry []uint64, v uint64) {
	atomic.StoreUint64(&entry[0], v)
	u.flush(flush, entry[:1])
}

// setEntry makes an entry present. P comes last: the unit may read the entry at
// any time.
func (u *Unit) setEntry(order, flush point, entry []uint64, v []uint64) {
	inOrder(order, func() {
		for i := 1; i < len(v); i++ {
			atomic.StoreUint64(&entry[i], v[i])
		}
	}, func() { atomic.StoreUint64(&entry[0], v[0]) })
	u.flush(flush, entry)
}

// attachContext makes the context entry of legacy mode.
func (u *Unit) attachContext(source, domainID uint16, tr translation) error {
	if u.contexts[u.rootWord(source)] == nil {
		frames, err := u.take("context table")
		if err != nil {
			return err
		}
		u.linkContexts(source, frames[0])
	}
	entry := u.contextEntry(source)
	low := tr.root | entryPresent
	if tr.kind == untranslated {
		low |= contextPassThrough
	} else if _, ok := u.deviceTLBs[source]; ok {
		low |= contextDeviceTLB
	}
	u.setEntry(orderContextEntry, flushContextEntry, entry, []uint64{low, uint64(domainID)<<contextDomain | tr.code})
	if err := u.publishedContext(source, domainID); err != nil {
		return errors.Join(err, u.retireContextEntry(source, domainID))
	}
	return nil
}

// publishedContext lets the unit see a context entry that has become present.
// Only a unit in caching mode has cached that it was not; there these are tagged
// with domain id 0 (section 6.2.2).
func (u *Unit) publishedContext(source, domainID uint16) error {
	if !u.enabled || !u.caps.CachingMode {
		return u.publishedBuffer()
	}
	p := u.newPlan()
	p.add(publishContext, request{kind: ofContexts, granularity: selective, source: source})
	p.fence()
	p.add(publishIOTLB, request{kind: ofIOTLB, granularity: byDomain, domainID: domainID})
	return u.run(p)
}

// retireContextEntry takes a context entry away. A unit may read the two halves
// of an entry at different times, and must not find P with the rest gone: the
// rest stays until the unit has been told (section 6.2.2.1), and after an error
// until the next Attach. The unit forgets first the context, then what was
// translated through it (section 6.2.2.1).
func (u *Unit) retireContextEntry(source, domainID uint16) (err error) {
	entry := u.contextEntry(source)
	u.setWord(flushContextGone, entry, 0)
	inOrder(orderRetire, func() {
		p := u.newPlan()
		p.add(retireContext, request{kind: ofContexts, granularity: selective, domainID: domainID, source: source})
		p.fence()
		p.add(retireIOTLB, request{kind: ofIOTLB, granularity: byDomain, domainID: domainID})
		err = u.retired(p, place{source, noPASID}, domainID)
	}, func() {
		if err == nil {
			clearRest(entry)
		}
	})
	return err
}

// clearRest clears an entry that the unit does not look at: nothing need be flushed.
func clearRest(entry []uint64) {
	for i := range entry {
		atomic.StoreUint64(&entry[i], 0)
	}
}

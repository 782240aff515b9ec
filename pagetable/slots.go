package pagetable

import "sync/atomic"

// slots find held tables of pages without a walk. Each has the table of one of all
// ranges of 2 MiB that fall on it, which are 1 GiB apart: the last one held.
//
//	bits 63:21  of the IOVAs that the table translates
//	bits 20:0   which frame of Memory's main segment it is
//
// A word names a table only while it is held. So who maps or unmaps in the range of a word, which
// nobody may unhold meanwhile, needs neither look whether the table is still in
// the tree nor count its entries.
type slots [slotCount]atomic.Uint64

const (
	slotCount = 512
	pagesSpan = 1 << (pageBits + indexBits) // bytes that a table of pages translates
	slotFrame = pagesSpan - 1
)

func (s *slots) of(iova uint64) *atomic.Uint64 { return &s[iova/pagesSpan%slotCount] }

// noTable is a word that no IOVA of its slot matches.
func noTable(iova uint64) uint64 { return ^iova &^ slotFrame }

// init makes all slots empty.
func (s *slots) init() {
	for i := range s {
		s[i].Store(noTable(uint64(i) * pagesSpan))
	}
}

// pages is the held table of pages that translates iova, or nil if there is none or another
// has its slot.
func (t *Table) pages(iova uint64) *[entries]uint64 {
	w := t.slots.of(iova).Load()
	if (w^iova)/pagesSpan != 0 {
		return nil
	}
	return t.mem.main.frame(w & slotFrame)
}

// publish puts the held tables of [first, last] into their slots.
func (c core[F]) publish(first, last uint64) {
	for at := first; ; at += pagesSpan {
		_, bus := c.useAt(at, 0)
		if i := (bus - c.mem.main.first) / FrameSize; bus != 0 && i < c.mem.main.size/FrameSize && i <= slotFrame {
			c.slots.of(at).Store(at | i)
		}
		if whole(at, 1) == last {
			return
		}
	}
}

// conceal takes the table for iova out of its slot.
func (t *Table) conceal(iova uint64) {
	s := t.slots.of(iova)
	if w := s.Load(); (w^iova)/pagesSpan == 0 {
		s.CompareAndSwap(w, noTable(iova))
	}
}

// mapHeld maps pages in a held table, the first one with the entry e. It says whether all is well: the
// arguments, and nothing was mapped there.
func (t *Table) mapHeld(tbl *[entries]uint64, iova, bus, size, e uint64) bool {
	i, n := iova/FrameSize%entries, size/FrameSize
	if (iova|bus|size)%FrameSize != 0 || (bus|(bus+size))>>busBits != 0 || n-1 >= entries-i {
		return false
	}
	run := tbl[i : i+n]
	if inUse(run) {
		return false
	}
	pause()
	if fill(run, e, FrameSize); !t.coherent {
		t.flushNow(run)
	}
	return true
}

// unmapHeld clears pages of a held table. It says whether the arguments are in order.
func (t *Table) unmapHeld(tbl *[entries]uint64, iova, size uint64, b *Batch) (bytes uint64, ok bool) {
	i, n := iova/FrameSize%entries, size/FrameSize
	if (iova|size)%FrameSize != 0 || n-1 >= entries-i {
		return 0, false
	}
	run := tbl[i : i+n]
	pause()
	gone := wipe(run)
	if gone > 0 {
		b.touch(t, iova, iova+(size-1))
		if !t.coherent {
			t.flushNow(run)
		}
	}
	return uint64(gone) * FrameSize, true
}

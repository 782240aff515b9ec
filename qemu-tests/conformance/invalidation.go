package conformance

import (
	"errors"
	"sync/atomic"

	"gommu/iommu/vtd"
	"gommu/pagetable"
)

var invalidationCases = []Case{
	{Name: "invalidate/page", About: "an invalidation of a page drops it, and nothing else does", run: stale(func(b *bench) error { return b.unit.Invalidate(1, staleIOVA, page) })},
	{Name: "invalidate/range", About: "an invalidation of a range around a page drops it", run: stale(func(b *bench) error { return b.unit.Invalidate(1, staleIOVA-3*page, 5*page) })},
	{Name: "invalidate/half-of-all", About: "an invalidation of a range beyond every mask drops it", run: stale(func(b *bench) error { return b.unit.Invalidate(1, 0, 1<<38) })},
	{Name: "invalidate/leaves", About: "an invalidation of leaves only drops a page", run: stale(func(b *bench) error {
		return b.unit.InvalidateRanges(vtd.Range{Domain: 1, IOVA: staleIOVA, Size: page, LeavesOnly: true})
	})},
	{Name: "invalidate/domain", About: "an invalidation of a domain drops its pages", run: stale(func(b *bench) error { return b.unit.InvalidateDomain(1) })},
	{Name: "invalidate/all", About: "an invalidation of everything drops a page", run: stale(func(b *bench) error { return b.unit.InvalidateAll() })},
	{Name: "invalidate/registers", About: "invalidations through registers, for units without a queue", modes: []Mode{Legacy}, run: byRegisters},
	{Name: "invalidate/every-mask", About: "each power of two of pages drops its last page, and not the next one", run: everyMask},
	{Name: "queue/wrap", About: "the queue is gone round more than twice", run: queueWrap},
	{Name: "queue/full", About: "more invalidations at once than the queue holds are all done", run: queueFull},
	{Name: "queue/bad-descriptor", About: "a descriptor that the unit refuses is an error, and the queue goes on", ruins: true, run: badDescriptor},
	{Name: "queue/bad-among-good", About: "of several invalidations all but the bad one are done", ruins: true, run: badAmongGood},
}

const staleIOVA = 0x40_7000

// stale is a case that shows that the unit caches a page and that drop drops it.
func stale(drop func(b *bench) error) func(b *bench) {
	return func(b *bench) {
		t := b.attached(0, 1)
		b.mapPage(t, 1, staleIOVA+8*page, 5) // keeps the table
		b.staleness(t, drop)
	}
}

func (b *bench) staleness(t *pagetable.Table, drop func(b *bench) error) {
	b.mapPage(t, 1, staleIOVA, 3)
	b.expect(0, staleIOVA, b.bus(3), true, "mapped")
	batch := b.unmap(t, staleIOVA, page)
	b.expect(0, staleIOVA, b.bus(3), true, "unmapped and not invalidated")
	b.must(b.unit.Invalidate(2, staleIOVA, page))
	b.must(b.unit.InvalidateDomain(2))
	b.expect(0, staleIOVA, b.bus(3), true, "another domain invalidated")
	if b.mode != ScalableFirst { // where pages may drop all of the domain (section 6.5.2.4)
		b.must(b.unit.Invalidate(1, staleIOVA+16*page, page))
		b.expect(0, staleIOVA, b.bus(3), true, "another page invalidated")
	}
	b.must(drop(b))
	b.expect(0, staleIOVA, b.bus(3), false, "invalidated")
	b.faults(b.absent(0, staleIOVA, true))
	b.must(batch.Release())
}

func byRegisters(b *bench) {
	err := b.open(b.rig.Registers(), vtd.Options{Invalidation: vtd.InvalidateByRegisters})
	if errors.Is(err, vtd.ErrUnsupported) {
		b.skip("the unit has no registers for invalidations")
	}
	b.must(err)
	t := b.attached(0, 1)
	b.mapPage(t, 1, staleIOVA+8*page, 5)
	for _, drop := range []func(b *bench) error{
		func(b *bench) error { return b.unit.Invalidate(1, staleIOVA, page) },
		func(b *bench) error { return b.unit.InvalidateDomain(1) },
		func(b *bench) error { return b.unit.InvalidateAll() },
	} {
		b.staleness(t, drop)
	}
	b.detach(0)
	b.expect(0, staleIOVA+8*page, b.bus(5), false, "detached")
	b.faults(b.unattached(0, staleIOVA+8*page, true))
}

func everyMask(b *bench) {
	t := b.attached(0, 1)
	c := b.unit.Capabilities()
	if !c.PageSelective {
		b.skip("the unit drops no less than a domain")
	}
	step := 1
	if b.traits.SlowDMA {
		step = 6
	}
	for order := 0; order <= c.MaxAddressMask; order += step {
		first := uint64(1) << 31 // a multiple of every size
		last, behind := first+page<<order-page, first+page<<order
		b.mapPage(t, 1, last, 1)
		b.mapPage(t, 1, behind, 2)
		b.expect(0, last, b.bus(1), true, "mapped")
		b.expect(0, behind, b.bus(2), true, "mapped")
		batch := b.unmap(t, last, 2*page)
		b.tell(b.pages(1, first, order, false))
		if b.reaches(0, last, b.bus(1)) {
			b.failf("order %d: the last page is reached", order)
		}
		if most := b.traits.AddressMask; !b.reaches(0, behind, b.bus(2)) && (most == 0 || order <= most) {
			b.failf("order %d: the page behind was dropped, too", order)
		}
		b.must(b.unit.InvalidateDomain(1))
		b.must(batch.Release())
		b.drain()
	}
}

func queueWrap(b *bench) {
	t := b.attached(0, 1)
	for i := range 300 {
		look := i%100 == 0
		b.mapPage(t, 1, 0x3000, i)
		if look {
			b.expect(0, 0x3000, b.bus(i), true, "mapped")
		}
		b.must(b.unit.Flush(1, b.unmap(t, 0x3000, page)))
		if look {
			b.expect(0, 0x3000, b.bus(i), false, "invalidated")
			b.faults(b.absent(0, 0x3000, true))
		}
	}
}

func queueFull(b *bench) {
	t := b.attached(0, 1)
	const n = 600
	var ranges []vtd.Range
	for i := range uint64(n) {
		ranges = append(ranges, vtd.Range{Domain: 1, IOVA: i << 13, Size: page})
	}
	used := []int{0, 1, 255, 511, n - 1}
	var batches []*pagetable.Batch
	for _, i := range used {
		b.mapPage(t, 1, uint64(i)<<13, i%512)
		b.expect(0, uint64(i)<<13, b.bus(i%512), true, "mapped")
	}
	for _, i := range used {
		batches = append(batches, b.unmap(t, uint64(i)<<13, page))
	}
	b.must(b.unit.InvalidateRanges(ranges...))
	for _, i := range used {
		b.expect(0, uint64(i)<<13, b.bus(i%512), false, "invalidated")
		b.faults(b.absent(0, uint64(i)<<13, true))
	}
	for _, batch := range batches {
		b.must(batch.Release())
	}
}

// spoiler is the unit's registers; while armed it ruins the descriptor that is
// submitted next, some descriptors before the tail.
//
//gommu:maysleep what it wraps may
type spoiler struct {
	vtd.Registers
	mem   *pagetable.Memory
	armed bool
	back  uint64
	queue uint64 // IQA_REG as written
}

func (s *spoiler) Write64(off, v uint64) {
	const iqt, iqa = 0x88, 0x90
	switch {
	case off == iqa:
		s.queue = v
	case off == iqt && s.armed:
		s.armed = false
		size := uint64(16) << (s.queue >> 11 & 1)
		at := (v - size*s.back) & (page - 1)
		w := &s.mem.Entries(pagetable.Frame{Bus: next(s.queue)})[at/8]
		atomic.StoreUint64(w, atomic.LoadUint64(w)|0xf) // a type that does not exist
	}
	s.Registers.Write64(off, v)
}

// spoiled opens the unit behind a spoiler.
func (b *bench) spoiled(back uint64) *spoiler {
	s := &spoiler{Registers: b.rig.Registers(), mem: b.mem, back: back}
	b.must(b.open(s, vtd.Options{}))
	if !b.unit.Queued() {
		b.skip("the unit has no queue")
	}
	return s
}

func badDescriptor(b *bench) {
	s := b.spoiled(2)
	t := b.attached(0, 1)
	for range 150 { // over the queue's end, too
		s.armed = true
		err := b.unit.Invalidate(1, 0x1000, page)
		q, ok := errors.AsType[*vtd.QueueError](err)
		if !ok || !q.Queue || q.Descriptor[0]&0xf != 0xf {
			b.fatalf("a bad descriptor gives %v", err)
		}
	}
	b.mapPage(t, 1, 0x1000, 1)
	b.expect(0, 0x1000, b.bus(1), true, "mapped")
	b.must(b.unit.Flush(1, b.unmap(t, 0x1000, page)))
	b.expect(0, 0x1000, b.bus(1), false, "invalidated after errors")
	b.faults(b.absent(0, 0x1000, true))
}

func badAmongGood(b *bench) {
	s := b.spoiled(3)
	t := b.attached(0, 1)
	at := []uint64{0x1000, 0x9000, 0x11000} // the second is ruined
	for round := range 60 {
		look := round%20 == 0
		var ranges []vtd.Range
		for i, iova := range at {
			b.mapPage(t, 1, iova, i)
			if look {
				b.expect(0, iova, b.bus(i), true, "mapped")
			}
			ranges = append(ranges, vtd.Range{Domain: 1, IOVA: iova, Size: page})
		}
		var batches []*pagetable.Batch
		for _, iova := range at {
			batches = append(batches, b.unmap(t, iova, page))
		}
		s.armed = true
		err := b.unit.InvalidateRanges(ranges...)
		if q, ok := errors.AsType[*vtd.QueueError](err); !ok || !q.Queue {
			b.fatalf("a bad descriptor gives %v", err)
		}
		if look {
			b.expect(0, at[0], b.bus(0), false, "invalidated before the bad one")
			b.expect(0, at[2], b.bus(2), false, "invalidated behind the bad one")
			if b.mode != ScalableFirst { // where each drops all of the domain on QEMU
				b.expect(0, at[1], b.bus(1), true, "the bad one")
			}
		}
		b.must(b.unit.Invalidate(1, at[1], page))
		for _, batch := range batches {
			b.must(batch.Release())
		}
		b.drain()
	}
}

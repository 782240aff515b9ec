package conformance

import (
	"sync/atomic"

	"gommu/pagetable"
)

var cacheCases = []Case{
	{Name: "cache/caching-mode", About: "in caching mode a page works once it was published, though it was blocked before", variant: Variant{CachingMode: true}, run: publish},
	{Name: "cache/caching-mode-attach", About: "in caching mode a device works once it was attached, though it was blocked before", variant: Variant{CachingMode: true}, run: publishAttach},
	{Name: "cache/absent", About: "in caching mode what was not present is cached until it is published", modes: []Mode{Legacy, ScalableSecond}, variant: Variant{CachingMode: true}, needs: AbsentCached, run: absentCached},
	{Name: "cache/tables", About: "an invalidation of leaves only leaves cached what leads to them", needs: PagingCache, ruins: true, run: tablesCached},
	{Name: "cache/unflushed", About: "what is not written back from the CPU's caches is not seen", needs: LinesUnflushed, run: unflushed},
	{Name: "cache/write-buffer", About: "what is stored is seen after the write buffers were flushed", variant: Variant{WriteBuffer: true}, run: writeBuffer},
	{Name: "cache/permission-fault", About: "an access that a cached entry forbids is blocked and recorded", needs: CachedFaults, run: cachedFault},
}

func publish(b *bench) {
	t := b.attached(0, 1)
	if !b.unit.Capabilities().CachingMode {
		b.fatalf("the unit is not in caching mode")
	}
	for i := range b.rounds(5) {
		iova := top(t) + uint64(i)<<21
		b.expect(0, iova, b.bus(i), false, "not mapped")
		b.faults(b.absent(0, iova, true))
		b.mapPage(t, 1, iova, i)
		b.expect(0, iova, b.bus(i), true, "published")
		b.must(b.unit.Flush(1, b.unmap(t, iova, page)))
		b.expect(0, iova, b.bus(i), false, "unmapped")
		b.faults(b.absent(0, iova, true))
	}
}

func publishAttach(b *bench) {
	t := b.attached(0, 1)
	b.mapPage(t, 1, 0x1000, 1)
	for range b.rounds(3) {
		b.expect(1, 0x1000, b.bus(1), false, "not attached")
		b.faults(b.unattached(1, 0x1000, true))
		b.attach(1, 1, t)
		b.expect(1, 0x1000, b.bus(1), true, "attached")
		b.detach(1)
	}
}

func absentCached(b *bench) {
	t := b.attached(0, 1)
	b.expect(0, 0x1000, b.bus(1), false, "not mapped")
	b.must(t.Map(0x1000, b.bus(1), page, both))
	b.expect(0, 0x1000, b.bus(1), false, "mapped and not published")
	b.must(b.unit.Publish(1, 0x1000, page))
	b.expect(0, 0x1000, b.bus(1), true, "published")
	b.drain()
}

func tablesCached(b *bench) {
	t := b.attached(0, 1)
	b.mapPage(t, 1, 0x1000, 1)
	b.expect(0, 0x1000, b.bus(1), true, "mapped")
	// The last-level table moves: its copy leads elsewhere.
	link := b.pageEntry(t, 0x1000, 2)
	old := b.peek(link)
	f, err := b.frames.Get()
	b.must(err)
	leaf := b.peek(b.pageEntry(t, 0x1000, 1))
	for i := range uint64(512) {
		b.poke(f.Bus+8*i, 0)
	}
	b.poke(f.Bus+8, leaf&^next(^uint64(0))|b.bus(2))
	b.poke(link, old&^next(^uint64(0))|f.Bus)
	b.tell(b.pages(1, 0x1000, 0, true))
	b.expect(0, 0x1000, b.bus(1), true, "leaves invalidated")
	b.tell(b.pages(1, 0x1000, 0, false))
	b.expect(0, 0x1000, b.bus(2), true, "all invalidated")
	b.poke(link, old)
	b.poke(f.Bus+8, 0)
	b.forget()
	b.must(b.frames.Put(f))
	b.noFaults()
}

func unflushed(b *bench) {
	t := b.attached(0, 1)
	if b.unit.Capabilities().Usable(b.mode.Unit()).Coherent {
		b.skip("the unit's walks snoop")
	}
	b.mapPage(t, 1, 0x1000, 1)
	at := b.pageEntry(t, 0x1000, 1)
	leaf := b.peek(at)
	atomic.StoreUint64(b.word(at+8), leaf&^next(^uint64(0))|b.bus(2))
	b.expect(0, 0x2000, b.bus(2), false, "stored and not flushed")
	b.faults(b.absent(0, 0x2000, true))
	b.poke(at+8, b.peek(at+8))
	b.expect(0, 0x2000, b.bus(2), true, "flushed")
	b.poke(at+8, 0)
	b.forget()
	b.expect(0, 0x1000, b.bus(1), true, "what the driver wrote")
	b.noFaults()
}

func writeBuffer(b *bench) {
	t := b.attached(0, 1)
	if !b.unit.Capabilities().WriteBufferFlush {
		b.fatalf("the unit has no write buffers")
	}
	b.must(t.Map(0x1000, b.bus(1), page, both))
	b.expect(0, 0x1000, b.bus(1), false, "mapped and not published")
	b.faults(b.absent(0, 0x1000, true))
	b.must(b.unit.Publish(1, 0x1000, page))
	b.expect(0, 0x1000, b.bus(1), true, "published")
	b.must(b.unit.Flush(1, b.unmap(t, 0x1000, page)))
	b.expect(0, 0x1000, b.bus(1), false, "unmapped")
	b.faults(b.absent(0, 0x1000, true))
	b.attach(1, 1, t)
	b.mapPage(t, 1, 0x5000, 2)
	b.expect(1, 0x5000, b.bus(2), true, "attached later")
}

func cachedFault(b *bench) {
	t := b.attached(0, 1)
	b.mapRange(t, 1, 0x1000, b.bus(1), page, pagetable.Read)
	b.mapPage(t, 1, 0x2000, 2)
	b.copies(0, 0x1000, b.bus(1), 0x2000, b.bus(2), 64)
	b.expect(0, 0x1000, b.bus(1), false, "a write through a cached read-only entry")
	b.faults(b.denied(0, 0x1000, true))
}

package conformance

import (
	"bytes"
	"errors"

	"gommu/iommu/vtd"
	"gommu/pagetable"
)

var mappingCases = []Case{
	{Name: "map/4K", About: "a 4 KiB leaf translates its first and last byte", run: func(b *bench) { leaf(b, page) }},
	{Name: "map/2M", About: "a 2 MiB leaf translates all of its range", run: func(b *bench) { leaf(b, size2M) }},
	{Name: "map/1G", About: "a 1 GiB leaf translates all of its range", run: func(b *bench) { leaf(b, size1G) }},
	{Name: "map/full-table", About: "a table with all entries in use, each with its own page", run: fullTable},
	{Name: "map/scattered", About: "neighbours for the device that are none in memory", run: scattered},
	{Name: "map/boundary-2M", About: "a transfer over the border between two last-level tables", run: func(b *bench) { boundary(b, 21) }},
	{Name: "map/boundary-1G", About: "a transfer over the border between two tables of the level above", run: func(b *bench) { boundary(b, 30) }},
	{Name: "map/boundary-512G", About: "a transfer over the border between two entries of a four-level root", run: func(b *bench) { boundary(b, 39) }},
	{Name: "map/limit-39", About: "the last page of a 39-bit table, and the first address behind", modes: []Mode{Legacy, ScalableSecond}, run: limit39},
	{Name: "map/limit-48", About: "the last page of 48 bits, and the first address behind", modes: []Mode{Legacy, ScalableSecond}, run: limit48},
	{Name: "map/limit-unit-39", About: "a unit of 39 bits blocks what is beyond", modes: []Mode{Legacy, ScalableSecond}, variant: Variant{Narrow: true}, run: limitUnit},
	{Name: "map/limit-canonical", About: "first-stage addresses repeat bit 47: both halves work, between them nothing does", modes: []Mode{ScalableFirst}, run: limitCanonical},
	{Name: "map/permissions", About: "reads and writes pass where the leaf says so", run: permissions},
	{Name: "map/protect", About: "a permission that is taken away is gone after the invalidation, one that is given works", run: protect},
	{Name: "map/over-mapped", About: "mapping over a mapping is refused and changes nothing", run: overMapped},
	{Name: "map/first-touch", About: "a page is reached as soon as it is mapped, though it was blocked before", run: firstTouch},
}

// leaf maps one leaf of a size at the top of the table and copies through it.
// Of 1 GiB only the part that is data memory is touched.
func leaf(b *bench, size uint64) {
	t := b.attached(0, 1)
	iova := top(t) &^ (size - 1)
	bus := b.data.Bus &^ (size - 1)
	inside := b.data.Bus - bus
	b.mapRange(t, 1, iova, bus, size, both)
	l, ok := t.Lookup(iova + inside)
	if size > page && ok && l.Size < size {
		b.skip("the unit has no leaves of %d MiB", size>>20)
	}
	if !ok || l.Size != size || l.Bus != bus {
		b.fatalf("the leaf is %+v", l)
	}
	span := min(size, size2M)
	for _, off := range []uint64{0, span / 2 &^ 7, span - probe} {
		b.expect(0, iova+inside+off, b.data.Bus+off, true, "mapped")
	}
	if size > page {
		b.copies(0, iova+inside+7, b.data.Bus+7, iova+inside+span-MaxTransfer, b.data.Bus+span-MaxTransfer, MaxTransfer)
	}
	for _, outside := range []uint64{iova - page, iova + size} {
		b.expect(0, outside, b.data.Bus, false, "beside the leaf")
		b.faults(b.absent(0, outside, true))
	}
}

// fullTable fills a last-level table, whose pages are mapped in reverse order.
func fullTable(b *bench) {
	t := b.attached(0, 1)
	iova := top(t) &^ (size2M - 1)
	for i := range 512 {
		b.must(t.Map(iova+uint64(i)*page, b.bus(511-i), page, both))
	}
	b.must(b.unit.Publish(1, iova, size2M))
	step := 512 / b.rounds(64)
	for i := 0; i < 512; i += step {
		b.expect(0, iova+uint64(i)*page, b.bus(511-i), true, "mapped")
	}
	b.expect(0, iova+511*page, b.bus(0), true, "mapped")
	b.noFaults()
	b.must(b.unit.Flush(1, b.unmap(t, iova, size2M)))
	if n := t.Stats().Tables; n != 1 {
		b.failf("%d tables are left of an empty tree", n)
	}
}

func scattered(b *bench) {
	t := b.attached(0, 1)
	iova := top(t)
	b.must(t.MapExtents(iova, []pagetable.Extent{{Bus: b.bus(5), Size: page}, {Bus: b.bus(2), Size: page}, {Bus: b.bus(9), Size: 2 * page}}, both))
	b.must(b.unit.Publish(1, iova, 4*page))
	b.mapPage(t, 1, 0x1000, 20)
	acrossPages(b, iova, 5, 2, 0x1000)
	acrossPages(b, iova+page, 2, 9, 0x1000)
	b.copies(0, iova+2*page+100, b.bus(9)+100, 0x1000, b.bus(20), MaxTransfer)
}

// acrossPages has the device read over the border between the pages at iova and behind,
// which are data pages n and m, and write it all to page 20 at back.
func acrossPages(b *bench, iova uint64, n, m int, back uint64) {
	want := append(b.random(b.bus(n)+page-100, 100), b.random(b.bus(m), 200)...)
	b.read(0, iova+page-100, 300)
	b.write(0, back, 300)
	if !bytes.Equal(b.at(b.bus(20), 300), want) {
		b.failf("a read over the border at %#x went astray", iova+page)
	}
	b.random(b.bus(n), page)
	b.random(b.bus(m), page)
	b.write(0, iova+page-100, 300)
	if !bytes.Equal(append(bytes.Clone(b.at(b.bus(n)+page-100, 100)), b.at(b.bus(m), 200)...), want) {
		b.failf("a write over the border at %#x went astray", iova+page)
	}
	b.noFaults()
}

// boundary maps a page on each side of an IOVA that is a multiple of 2^shift.
func boundary(b *bench, shift uint) {
	t := b.attached(0, 1)
	limit := t.AddressWidth()
	if t.Stage() == pagetable.FirstStage {
		limit--
	}
	if shift >= uint(limit) {
		b.skip("the table has no such border")
	}
	b.mapPage(t, 1, 0x1000, 20)
	borders := []uint64{1 << shift, 1<<limit - 1<<shift}
	for i, at := range borders {
		if i > 0 && at == borders[0] {
			continue
		}
		b.mapPage(t, 1, at-page, 7)
		b.mapPage(t, 1, at, 3)
		acrossPages(b, at-page, 7, 3, 0x1000)
		b.expect(0, at+page, b.bus(4), false, "behind the pages")
		b.faults(b.absent(0, at+page, true))
		b.expect(0, at-2*page, b.bus(6), false, "before the pages")
		b.faults(b.absent(0, at-2*page, true))
	}
}

func width(w int) func(*pagetable.Options) {
	return func(o *pagetable.Options) { o.AddressWidth = w }
}

func limit39(b *bench) {
	if !b.unit.Capabilities().Width39 {
		b.skip("the unit walks no 39-bit tables")
	}
	limit(b, 39)
}

func limit48(b *bench) {
	if c := b.unit.Capabilities(); !c.Width48 || c.MaxAddressWidth != 48 {
		b.skip("the unit's width is %d bits", c.MaxAddressWidth)
	}
	limit(b, 48)
}

func limitUnit(b *bench) {
	if w := b.unit.Capabilities().MaxAddressWidth; w != 39 {
		b.fatalf("the unit's width is %d bits", w)
	}
	limit(b, 39)
}

// beyond is the fault of an access behind a second-stage table.
func (b *bench) beyond(iova uint64, write bool) blocked {
	if b.mode == Legacy {
		return blocked{vtd.ReasonBeyondWidth, 0, iova, write}
	}
	return blocked{0x84, 0, iova, write}
}

// limit uses the last page of a table and what is behind.
func limit(b *bench, w int) {
	t := b.attached(0, 1, width(w))
	last := uint64(1)<<w - page
	b.mapPage(t, 1, last, 1)
	b.mapPage(t, 1, 0, 2)
	b.copies(0, last+1, b.bus(1)+1, 0, b.bus(2), MaxTransfer)
	if err := t.Map(last+page, b.bus(3), page, both); !errors.Is(err, pagetable.ErrRange) {
		b.failf("mapping beyond the table: %v", err)
	}
	for _, iova := range []uint64{last + page, 1 << 52, 1<<63 + last} {
		b.expect(0, iova, b.bus(2), false, "behind the table")
		b.faults(b.beyond(iova, true))
		b.read(0, iova, probe)
		b.faults(b.beyond(iova, false))
	}
	// The part of a transfer that lies before the limit passes.
	b.random(b.bus(1), page)
	b.random(b.bus(2), page)
	b.read(0, 0, 300)
	b.write(0, last+page-100, 300)
	if !bytes.Equal(b.at(b.bus(1)+page-100, 100), b.at(b.bus(2), 100)) {
		b.failf("the part before the limit did not arrive")
	}
	b.faults(b.beyond(last+page, true))
}

func limitCanonical(b *bench) {
	t := b.attached(0, 1)
	bits := t.AddressWidth()
	low, high := uint64(1)<<(bits-1)-page, ^uint64(0)<<(bits-1)
	b.mapPage(t, 1, low, 1)
	b.mapPage(t, 1, high, 2)
	b.mapPage(t, 1, ^uint64(0)-page+1, 3)
	b.copies(0, low+1, b.bus(1)+1, high, b.bus(2), MaxTransfer)
	b.copies(0, high, b.bus(2), ^uint64(0)-page+1, b.bus(3), 4000)
	if err := t.Map(low+page, b.bus(3), page, both); !errors.Is(err, pagetable.ErrRange) {
		b.failf("mapping what is not canonical: %v", err)
	}
	for _, iova := range []uint64{low + page, high - page, 1 << 62} {
		b.expect(0, iova, b.bus(1), false, "not canonical")
		b.faults(blocked{0x80, 0, iova, true})
	}
}

func permissions(b *bench) {
	t := b.attached(0, 1)
	b.mapRange(t, 1, 0x1000, b.bus(1), page, pagetable.Read)
	b.mapRange(t, 1, 0x2000, b.bus(2), page, both)
	b.expect(0, 0x1040, b.bus(1)+0x40, false, "read-only")
	b.faults(b.denied(0, 0x1000, true))
	if b.mode == ScalableFirst { // cannot forbid reads
		b.copies(0, 0x1000, b.bus(1), 0x2000, b.bus(2), 100)
		if err := t.Map(0x5000, b.bus(3), page, pagetable.Write); !errors.Is(err, pagetable.ErrProt) {
			b.failf("a write-only first-stage mapping: %v", err)
		}
		return
	}
	b.mapRange(t, 1, 0x5000, b.bus(3), page, pagetable.Write)
	b.random(b.bus(3), probe)
	b.read(0, 0x5040, probe)
	b.faults(b.denied(0, 0x5000, false))
	b.holdsZeros(0, 0x2000, b.bus(2), probe, "write-only")
	b.copies(0, 0x1000, b.bus(1), 0x5000, b.bus(3), 100)
}

func protect(b *bench) {
	t := b.attached(0, 1)
	b.mapPage(t, 1, 0x7000, 1)
	b.expect(0, 0x7000, b.bus(1), true, "mapped")
	change := func(p pagetable.Prot) {
		var batch pagetable.Batch
		n, err := t.Protect(0x7000, page, p, &batch)
		b.must(err)
		if n != page {
			b.failf("%d bytes were changed", n)
		}
		b.must(b.unit.Flush(1, &batch))
	}
	change(pagetable.Read)
	b.expect(0, 0x7000, b.bus(1), false, "write taken away")
	b.faults(b.denied(0, 0x7000, true))
	change(both)
	b.expect(0, 0x7000, b.bus(1), true, "write given back")
	b.noFaults()
}

func overMapped(b *bench) {
	t := b.attached(0, 1)
	b.mapPage(t, 1, 0x5000, 1)
	b.expect(0, 0x5000, b.bus(1), true, "mapped")
	held := b.frames.Stats().InUse
	for _, at := range []uint64{0x5000, 0x4000, 0} {
		err := t.Map(at, b.bus(2), 0x6000-at, both)
		o, ok := errors.AsType[*pagetable.OpError](err)
		if !ok || !errors.Is(err, pagetable.ErrOverlap) || o.At != 0x5000 {
			b.failf("mapping %#x over a page: %v", at, err)
		}
	}
	if err := t.Map(0, b.data.Bus, size2M, both); !errors.Is(err, pagetable.ErrOverlap) {
		b.failf("mapping a superpage over a page: %v", err)
	}
	if got := b.frames.Stats().InUse; got != held {
		b.failf("refused maps hold %d frames", got-held)
	}
	b.must(b.unit.InvalidateDomain(1))
	b.expect(0, 0x5000, b.bus(1), true, "after refused maps")
	b.expect(0, 0x4000, b.bus(2), false, "what a refused map would have mapped")
	b.faults(b.absent(0, 0x4000, true))
}

func firstTouch(b *bench) {
	t := b.attached(0, 1)
	for i := range b.rounds(10) {
		iova := top(t) + uint64(i)<<21
		b.expect(0, iova, b.bus(i), false, "not mapped yet")
		b.faults(b.absent(0, iova, true))
		b.mapPage(t, 1, iova, i)
		b.expect(0, iova, b.bus(i), true, "mapped")
	}
	b.noFaults()
}

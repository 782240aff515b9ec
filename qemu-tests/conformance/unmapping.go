package conformance

import (
	"bytes"

	"gommu/iommu/vtd"
	"gommu/pagetable"
)

var unmappingCases = []Case{
	{Name: "unmap/first-touch", About: "a page that was unmapped before anybody used it is not reached", run: unmapFirstTouch},
	{Name: "unmap/cached", About: "a page that the unit has cached is reached until the invalidation and not after it", run: unmapCached},
	{Name: "unmap/read", About: "a device that reads where a page was gets zeros", run: unmapRead},
	{Name: "unmap/whole-tree", About: "after unmapping everything no table is walked, and none but the root is left", run: unmapTree},
	{Name: "unmap/table-reused", About: "a table's frame is used again right after the flush, and its old entries lead nowhere", run: tableReused},
	{Name: "unmap/remap", About: "a page that is mapped to another frame leads there and not to the old one", run: remap},
	{Name: "leak/unmapped", About: "reads of what is not mapped return nothing of memory", run: leakUnmapped},
	{Name: "leak/behind-page", About: "a read from a mapped page into one that is not returns nothing behind the border", run: leakBehind},
}

func unmapFirstTouch(b *bench) {
	t := b.attached(0, 1)
	b.mapPage(t, 1, 0x4000, 1)
	b.mapPage(t, 1, 0x5000, 2)
	b.must(b.unit.Flush(1, b.unmap(t, 0x4000, page)))
	b.expect(0, 0x4000, b.bus(1), false, "unmapped")
	b.faults(b.absent(0, 0x4000, true))
	b.expect(0, 0x5000, b.bus(2), true, "its neighbour")
	b.noFaults()
}

func unmapCached(b *bench) {
	t := b.attached(0, 1)
	iova := top(t)
	for i := range b.rounds(5) {
		b.mapPage(t, 1, iova, i)
		b.expect(0, iova, b.bus(i), true, "mapped")
		batch := b.unmap(t, iova, page)
		b.expect(0, iova, b.bus(i), true, "unmapped and not invalidated (the unit has to cache for this case to show anything)")
		b.must(b.unit.Flush(1, batch))
		b.expect(0, iova, b.bus(i), false, "invalidated")
		b.faults(b.absent(0, iova, true))
	}
}

func unmapRead(b *bench) {
	t := b.attached(0, 1)
	b.mapPage(t, 1, 0x4000, 1)
	b.mapPage(t, 1, 0x9000, 2)
	b.copies(0, 0x4000, b.bus(1), 0x9000, b.bus(2), 512)
	b.must(b.unit.Flush(1, b.unmap(t, 0x4000, page)))
	b.random(b.bus(1), 512)
	b.read(0, 0x4000, 512)
	b.faults(b.absent(0, 0x4000, false))
	b.holdsZeros(0, 0x9000, b.bus(2), 512, "unmapped")
}

func unmapTree(b *bench) {
	t := b.attached(0, 1)
	var places []uint64
	for shift := uint(12); shift < uint(t.AddressWidth())-1; shift += 3 {
		places = append(places, 1<<shift)
	}
	for i, iova := range places {
		b.mapPage(t, 1, iova, i)
		b.expect(0, iova, b.bus(i), true, "mapped")
	}
	var batch pagetable.Batch
	n, err := t.Unmap(0, 1<<(t.AddressWidth()-1), &batch)
	b.must(err)
	if want := uint64(len(places)) * page; n != want {
		b.failf("%d bytes were unmapped of %d", n, want)
	}
	b.must(b.unit.Flush(1, &batch))
	if n := t.Stats().Tables; n != 1 {
		b.failf("%d tables are left, want the root only", n)
	}
	for i, iova := range places {
		b.expect(0, iova, b.bus(i), false, "unmapped")
		b.faults(b.absent(0, iova, true))
	}
}

// tableReused has the frame of a table serve elsewhere in the tree. A unit with
// paging-structure caches that were not dropped goes through it in its old place.
func tableReused(b *bench) {
	t := b.attached(0, 1)
	here, there := top(t), top(t)-size1G
	for i := range b.rounds(8) {
		b.mapPage(t, 1, here, 2*i)
		b.expect(0, here, b.bus(2*i), true, "mapped")
		b.must(b.unit.Flush(1, b.unmap(t, here, page)))
		b.mapPage(t, 1, there, 2*i+1)
		b.expect(0, there, b.bus(2*i+1), true, "mapped elsewhere")
		b.expect(0, here, b.bus(2*i+1), false, "through the old place of a table")
		b.faults(b.absent(0, here, true))
		b.must(b.unit.Flush(1, b.unmap(t, there, page)))
	}
}

func remap(b *bench) {
	t := b.attached(0, 1)
	b.mapPage(t, 1, 0x8000, 0)
	for i := range b.rounds(10) {
		b.expect(0, 0x8000, b.bus(i), true, "mapped")
		b.must(b.unit.Flush(1, b.unmap(t, 0x8000, page)))
		b.mapPage(t, 1, 0x8000, i+1)
		b.expect(0, 0x8000, b.bus(i), false, "the old page")
		b.expect(0, 0x8000, b.bus(i+1), true, "the new page")
	}
	b.noFaults()
}

func leakUnmapped(b *bench) {
	t := b.attached(0, 1)
	b.mapPage(t, 1, 0x9000, 2)
	// Untranslated, or masked, these would lead to data.
	for _, iova := range []uint64{b.bus(7), b.bus(7) | 1<<40, b.bus(7) | 1<<46, b.bus(7) + 100} {
		b.random(b.bus(7), 512)
		b.read(0, iova, 300)
		b.faults(b.absent(0, iova, false))
		b.holdsZeros(0, 0x9000, b.bus(2), 300, "not mapped")
	}
	b.random(b.bus(7), 512)
	if b.mode != ScalableFirst { // which cannot forbid reads
		b.mapRange(t, 1, 0xc000, b.bus(7), page, pagetable.Write)
		b.read(0, 0xc000, 300)
		b.faults(b.denied(0, 0xc000, false))
		b.holdsZeros(0, 0x9000, b.bus(2), 300, "write-only")
	}
}

func leakBehind(b *bench) {
	t := b.attached(0, 1)
	b.mapPage(t, 1, 0x4000, 6)
	b.mapPage(t, 1, 0x9000, 2)
	want := b.random(b.bus(6)+page-100, 100)
	b.random(b.bus(7), 512) // what lies behind in memory
	b.random(b.bus(2), 512)
	b.read(0, 0x5000-100, 300)
	b.faults(b.absent(0, 0x5000, false))
	b.write(0, 0x9000, 300)
	got := bytes.Clone(b.at(b.bus(2), 300))
	// Whether the part before the border arrives is the device's affair.
	if !bytes.Equal(got[:100], want) && !bytes.Equal(got[:100], make([]byte, 100)) {
		b.failf("before the border the device read what is not there")
	}
	if !bytes.Equal(got[100:], make([]byte, 200)) {
		b.failf("behind the border the device has bytes that it was not allowed to read: % x …", got[100:116])
	}
	// A write across the border stops there.
	before := b.random(b.bus(7), 512)
	b.write(0, 0x5000-100, 300)
	if !bytes.Equal(b.at(b.bus(7), 512), before) {
		b.failf("a write went on behind the border")
	}
	b.faults(b.absent(0, 0x5000, true))
}

// pages drops pages of a domain's PASID 0 or of its second stage.
func (b *bench) pages(domain uint16, iova uint64, order int, leavesOnly bool) vtd.Invalidation {
	if b.mode == ScalableFirst {
		return vtd.PASIDPages(domain, 0, iova, order, leavesOnly)
	}
	return vtd.Pages(domain, iova, order, leavesOnly)
}

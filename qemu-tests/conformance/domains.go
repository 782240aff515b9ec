package conformance

import (
	"bytes"
	"errors"

	"gommu/iommu/vtd"
	"gommu/pagetable"
)

var domainCases = []Case{
	{Name: "domain/two", About: "two devices in two domains cannot reach each other's pages", run: twoDomains},
	{Name: "domain/shared", About: "two devices in one domain reach the same, and one invalidation is for both", run: sharedDomain},
	{Name: "domain/switch", About: "a device that changes its domain reaches the new one's pages only", run: switchDomain},
	{Name: "domain/detach", About: "a detached device reaches nothing, and the other is left alone", run: detach},
	{Name: "domain/never-attached", About: "a device without an entry reaches nothing", run: neverAttached},
	{Name: "domain/id-of-two-tables", About: "the driver refuses one domain id for two tables", run: idOfTwoTables},
	{Name: "domain/id-mixed-up", About: "one domain id written by hand for two tables mixes them up", needs: SharedDomainID, ruins: true, run: idMixedUp},
	{Name: "domain/ids-distinct", About: "an invalidation of one domain leaves what is cached of another", run: idsDistinct},
	{Name: "domain/largest-id", About: "the largest domain id that the unit has is told apart from its neighbours", run: largestID},
	{Name: "domain/pass-through", About: "a device that passes through reaches memory, the other does not", run: passThrough},
	{Name: "entry/context-change", About: "a context entry that points elsewhere counts after its invalidation", modes: []Mode{Legacy}, ruins: true, run: contextChange},
	{Name: "entry/pasid-change", About: "a PASID entry that points elsewhere counts after its invalidation", modes: []Mode{ScalableSecond, ScalableFirst}, ruins: true, run: pasidChange},
	{Name: "entry/pasid-cached", About: "a PASID entry that changed is not seen before its invalidation", modes: []Mode{ScalableSecond, ScalableFirst}, needs: PASIDCache, ruins: true, run: pasidCached},
	{Name: "entry/pasid-dma", About: "DMA with a PASID goes through that PASID's table, and without through PASID 0's", modes: []Mode{ScalableSecond, ScalableFirst}, needs: PASIDs, run: pasidDMA},
	{Name: "unit/off-and-on", About: "DMA passes untranslated while translation is off, and is translated again after", run: offAndOn},
}

// twoTables are two devices in two domains; IOVA 0x1000 is data page 1 for the
// first and 2 for the second.
func twoTables(b *bench) (one, two *pagetable.Table) {
	one, two = b.attached(0, 1), b.table()
	b.attach(1, 2, two)
	b.mapPage(one, 1, 0x1000, 1)
	b.mapPage(two, 2, 0x1000, 2)
	return one, two
}

func twoDomains(b *bench) {
	one, two := twoTables(b)
	b.mapRange(two, 2, 0x9000, b.bus(1), page, pagetable.Read)
	b.mapPage(one, 1, 0x5000, 3)
	b.copies(1, 0x9000, b.bus(1), 0x1000, b.bus(2), 128)
	for range 2 { // uncached and cached
		b.expect(0, 0x1000, b.bus(1), true, "its own page")
		b.expect(1, 0x1000, b.bus(2), true, "its own page")
		b.expect(0, 0x1000, b.bus(2), false, "the other's page")
		b.expect(1, 0x1000, b.bus(1), false, "the other's page")
	}
	b.noFaults()
	b.expect(0, 0x5000, b.bus(3), true, "its own page")
	b.expect(1, 0x5000, b.bus(3), false, "a page that only the other has")
	b.faults(b.absent(1, 0x5000, true))
}

func sharedDomain(b *bench) {
	t := b.attached(0, 1)
	b.attach(1, 1, t)
	b.mapPage(t, 1, 0x1000, 1)
	for i := range 2 {
		b.expect(i, 0x1000, b.bus(1), true, "mapped")
	}
	batch := b.unmap(t, 0x1000, page)
	for i := range 2 {
		b.expect(i, 0x1000, b.bus(1), true, "unmapped and not invalidated")
	}
	b.must(b.unit.Flush(1, batch))
	for i := range 2 {
		b.expect(i, 0x1000, b.bus(1), false, "invalidated")
		b.faults(b.absent(i, 0x1000, true))
	}
	b.detach(1)
	b.mapPage(t, 1, 0x1000, 1)
	b.expect(0, 0x1000, b.bus(1), true, "after the other device left the domain")
	b.noFaults()
}

func switchDomain(b *bench) {
	one, two := b.attached(0, 1), b.table()
	b.mapPage(one, 1, 0x1000, 1)
	b.mapPage(two, 2, 0x1000, 2)
	b.mapPage(one, 1, 0x7000, 3)
	for i := range b.rounds(4) {
		b.expect(0, 0x1000, b.bus(1), true, "in the first domain")
		b.expect(0, 0x7000, b.bus(3), true, "in the first domain")
		b.detach(0)
		b.attach(0, 2, two)
		b.expect(0, 0x1000, b.bus(1), false, "the first domain's page in the second")
		b.expect(0, 0x1000, b.bus(2), true, "in the second domain")
		b.noFaults()
		b.expect(0, 0x7000, b.bus(3), false, "what only the first domain has")
		b.faults(b.absent(0, 0x7000, true))
		b.detach(0)
		b.attach(0, uint16(10+i), one) // under a new id, too
		b.expect(0, 0x1000, b.bus(1), true, "back under another id")
		b.detach(0)
		b.attach(0, 1, one)
	}
}

// unattached is the fault of a device without an entry on a bus where another has one.
func (b *bench) unattached(i int, iova uint64, write bool) blocked {
	if b.mode == Legacy {
		return blocked{vtd.ReasonContextNotPresent, i, iova, write}
	}
	return blocked{0x41, i, iova, write}
}

func detach(b *bench) {
	_, two := twoTables(b)
	b.expect(0, 0x1000, b.bus(1), true, "attached")
	b.detach(0)
	b.expect(0, 0x1000, b.bus(1), false, "detached")
	b.faults(b.unattached(0, 0x1000, true))
	b.expect(1, 0x1000, b.bus(2), true, "the other device")
	b.attach(0, 2, two)
	b.expect(0, 0x1000, b.bus(2), true, "attached to the other's table")
	b.noFaults()
}

func neverAttached(b *bench) {
	t := b.attached(0, 1)
	b.mapPage(t, 1, b.bus(1), 1)
	b.expect(0, b.bus(1), b.bus(1), true, "the attached device")
	b.expect(1, b.bus(1), b.bus(1), false, "the other device")
	b.faults(b.unattached(1, b.bus(1), true))
	b.random(b.bus(1), probe)
	b.read(1, b.bus(1), probe)
	b.faults(b.unattached(1, b.bus(1), false))
	b.attach(1, 1, t)
	b.random(b.bus(2), probe)
	b.holdsZeros(1, b.bus(1), b.bus(1), probe, "not attached")
}

func idOfTwoTables(b *bench) {
	one, two := b.attached(0, 1), b.table()
	if err := b.unit.Attach(b.dev[1].Source(), 1, two); !errors.Is(err, vtd.ErrDomainBusy) {
		b.failf("attaching a second table under the same id: %v", err)
	}
	b.mapPage(one, 1, 0x1000, 1)
	b.expect(1, 0x1000, b.bus(1), false, "the device that was refused")
	b.faults(b.unattached(1, 0x1000, true))
	b.expect(0, 0x1000, b.bus(1), true, "the device that has the id")
	b.attach(1, 1, one)
	b.expect(1, 0x1000, b.bus(1), true, "the same table under the same id")
}

func idMixedUp(b *bench) {
	twoTables(b)
	b.setDomain(1, 1)
	b.forget()
	b.expect(0, 0x1000, b.bus(1), true, "first")
	b.expect(1, 0x1000, b.bus(1), true, "through the entry that the other device left in the cache")
	b.setDomain(1, 2)
	b.forget()
	b.expect(1, 0x1000, b.bus(2), true, "with its own id again")
	b.expect(1, 0x1000, b.bus(1), false, "with its own id again")
	b.drain()
}

func idsDistinct(b *bench) {
	one, two := twoTables(b)
	b.expect(0, 0x1000, b.bus(1), true, "mapped")
	b.expect(1, 0x1000, b.bus(2), true, "mapped")
	batches := []*pagetable.Batch{b.unmap(one, 0x1000, page), b.unmap(two, 0x1000, page)}
	b.must(b.unit.InvalidateDomain(2))
	b.expect(0, 0x1000, b.bus(1), true, "the domain that was not invalidated")
	b.expect(1, 0x1000, b.bus(2), false, "the domain that was")
	b.faults(b.absent(1, 0x1000, true))
	b.must(b.unit.Flush(1, batches[0]))
	b.must(b.unit.Flush(2, batches[1]))
	b.expect(0, 0x1000, b.bus(1), false, "both invalidated")
	b.faults(b.absent(0, 0x1000, true))
}

func largestID(b *bench) {
	last := uint16(b.unit.Capabilities().Domains - 1)
	t := b.attached(0, last)
	b.mapPage(t, last, 0x1000, 1)
	b.expect(0, 0x1000, b.bus(1), true, "mapped")
	batch := b.unmap(t, 0x1000, page)
	for _, other := range []uint16{last - 1, 1, last &^ 0x100, last & 0xff} {
		b.must(b.unit.InvalidateDomain(other))
	}
	b.expect(0, 0x1000, b.bus(1), true, "other domains invalidated")
	b.must(b.unit.Flush(last, batch))
	b.expect(0, 0x1000, b.bus(1), false, "its own domain invalidated")
	b.faults(b.absent(0, 0x1000, true))
}

func passThrough(b *bench) {
	if !b.unit.Capabilities().PassThrough {
		b.skip("the unit lets nothing pass through")
	}
	t := b.attached(1, 2)
	b.attach(0, 1, vtd.PassThrough)
	want := b.random(b.bus(1), 64)
	b.random(b.bus(2), 64)
	b.read(0, b.bus(1), 64)
	b.write(0, b.bus(2), 64)
	if !bytes.Equal(b.at(b.bus(2), 64), want) {
		b.failf("what passes through did not arrive")
	}
	b.noFaults()
	b.expect(1, b.bus(2), b.bus(2), false, "the other device")
	b.faults(b.absent(1, b.bus(2), true))
	b.detach(0)
	b.expect(0, b.bus(2), b.bus(2), false, "detached")
	b.faults(b.unattached(0, b.bus(2), true))
	b.attach(0, 2, t)
	b.expect(0, b.bus(2), b.bus(2), false, "behind a table instead")
	b.faults(b.absent(0, b.bus(2), true))
}

// swapped has device 0 use IOVA 0x1000 and then, by hand, another table, where
// that is data page 2. Only the IOTLB was told.
func swapped(b *bench) {
	one, two := b.attached(0, 1), b.table()
	b.mapPage(one, 1, 0x1000, 1)
	b.mapPage(two, 1, 0x1000, 2)
	b.expect(0, 0x1000, b.bus(1), true, "before the change")
	b.setTable(0, two)
}

func contextChange(b *bench) {
	swapped(b)
	b.tell(vtd.AllTranslations())
	b.expect(0, 0x1000, b.bus(1), true, "only the IOTLB invalidated: the unit has the old context entry cached")
	b.tell(vtd.DeviceContexts(1, b.dev[0].Source(), 0), vtd.DomainTranslations(1))
	b.expect(0, 0x1000, b.bus(1), false, "the old table")
	b.expect(0, 0x1000, b.bus(2), true, "the new table")
	b.noFaults()
}

func pasidChange(b *bench) {
	swapped(b)
	b.tell(vtd.OnePASID(1, 0), vtd.DomainTranslations(1), vtd.PASIDTranslations(1, 0))
	b.expect(0, 0x1000, b.bus(1), false, "the old table")
	b.expect(0, 0x1000, b.bus(2), true, "the new table")
	b.noFaults()
}

func pasidCached(b *bench) {
	swapped(b)
	b.tell(vtd.AllTranslations())
	b.expect(0, 0x1000, b.bus(1), true, "only the IOTLB invalidated")
	b.tell(vtd.OnePASID(2, 0), vtd.OnePASID(1, 1), vtd.AllTranslations())
	b.expect(0, 0x1000, b.bus(1), true, "other PASID entries invalidated")
	b.tell(vtd.DomainPASIDs(1), vtd.AllTranslations())
	b.expect(0, 0x1000, b.bus(2), true, "the domain's PASID entries invalidated")
	b.noFaults()
}

func pasidDMA(b *bench) {
	d, ok := b.dev[0].(PASIDDevice)
	if !ok {
		b.fatalf("the device does no DMA with a PASID, and the rung does not say so")
	}
	none, five, six := b.attached(0, 1), b.table(), b.table()
	for i, t := range []*pagetable.Table{five, six} {
		b.must(b.unit.AttachPASID(d.Source(), uint32(5+i), uint16(5+i), t))
		b.mapPage(t, uint16(5+i), 0x1000, 5+i)
	}
	b.mapPage(none, 1, 0x1000, 1)
	through := func(pasid uint32, n int) bool {
		return b.reachesBy(func() { b.must(d.WritePASID(b.ctx, pasid, 0x1000, probe)) }, b.bus(n))
	}
	if !through(5, 5) || !through(6, 6) || through(5, 6) || through(6, 5) || through(5, 1) {
		b.failf("DMA with a PASID goes through the wrong table")
	}
	b.expect(0, 0x1000, b.bus(1), true, "without a PASID")
	b.expect(0, 0x1000, b.bus(5), false, "without a PASID")
	b.noFaults()
	b.must(b.unit.DetachPASID(d.Source(), 5))
	if through(5, 5) {
		b.failf("a detached PASID reaches its page")
	}
	if got, _ := b.drain(); len(got) != 1 || !got[0].HasPASID || got[0].PASID != 5 || got[0].Reason != 0x59 {
		b.failf("faults recorded %v, want that PASID entry 5 is not present", got)
	}
	if !through(6, 6) {
		b.failf("the other PASID was detached, too")
	}
	b.must(b.unit.DetachPASID(d.Source(), 6))
}

func offAndOn(b *bench) {
	b.expect(0, b.bus(1), b.bus(1), true, "before translation is enabled")
	t := b.attached(0, 1)
	b.mapPage(t, 1, b.bus(1), 2)
	for range 2 {
		b.expect(0, b.bus(1), b.bus(1), false, "translation on")
		b.expect(0, b.bus(1), b.bus(2), true, "translation on")
		b.must(b.unit.Disable(b.ctx))
		b.expect(0, b.bus(1), b.bus(1), true, "translation off")
		b.enable()
	}
	b.expect(0, b.bus(1), b.bus(2), true, "translation on")
	b.noFaults()
}

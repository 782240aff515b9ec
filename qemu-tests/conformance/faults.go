package conformance

import (
	"context"
	"slices"

	"gommu/iommu/vtd"
)

var faultCases = []Case{
	{Name: "fault/overflow", About: "with all records taken a further fault is lost, and the unit says so", run: overflow},
	{Name: "fault/one-by-one", About: "each fault is recorded with device, address, direction and reason", run: oneByOne},
	{Name: "fault/events", About: "faults are delivered as they happen", run: faultEvents},
	{Name: "fault/fpd-directory", About: "FPD in a PASID directory entry keeps faults out of the records", modes: scalable, ruins: true, run: func(b *bench) { fpd(b, b.directoryEntry) }},
	{Name: "fault/fpd-pasid", About: "FPD in a PASID entry keeps faults out of the records", modes: scalable, ruins: true, run: func(b *bench) { fpd(b, b.pasidEntry) }},
	{Name: "fault/fpd-context", About: "FPD in a context entry keeps one device's faults out of the records, not another's", ruins: true, run: func(b *bench) { fpd(b, b.contextEntry) }},
	{Name: "interrupt/write", About: "a write into the interrupt range is none to memory, whatever the table maps there", run: interruptWrite},
	{Name: "interrupt/read", About: "a read of the interrupt range returns nothing of memory", run: interruptRead},
	{Name: "interrupt/around", About: "the pages around the interrupt range are ordinary", run: interruptAround},
}

func overflow(b *bench) {
	if n := b.unit.Capabilities().FaultRecords; n != 1 {
		b.skip("the unit has %d fault records, and this case fills one", n)
	}
	t := b.attached(0, 1)
	b.attach(1, 1, t)
	for range 2 { // the second time shows that the overflow was cleared
		b.write(0, 0x5000, 8)
		b.read(1, 0x6000, 8)
		got, lost := b.drain()
		if !lost {
			b.failf("the unit does not say that it lost a fault")
		}
		b.sameFaults(got, []vtd.Fault{b.recorded(b.absent(0, 0x5000, true))})
		b.noFaults()
		b.read(1, 0x6000, 8)
		b.faults(b.absent(1, 0x6000, false))
	}
}

func oneByOne(b *bench) {
	t := b.attached(0, 1)
	b.attach(1, 1, t)
	for n := range b.rounds(20) {
		i, write, iova := n%2, n/2%2 == 0, uint64(n*0x1234_5000)
		if write {
			b.write(i, iova+uint64(n), 8)
		} else {
			b.read(i, iova+uint64(n), 8)
		}
		b.faults(b.absent(i, iova, write))
	}
}

func faultEvents(b *bench) {
	b.attached(0, 1)
	ctx, cancel := context.WithCancel(b.ctx)
	defer cancel()
	n := 0
	b.write(0, 0, 8)
	for e, err := range b.unit.FaultEvents(ctx) {
		b.must(err)
		b.sameFaults([]vtd.Fault{e.Fault}, []vtd.Fault{b.recorded(b.absent(0, uint64(n)<<13, true))})
		if n++; n == 3 || e.Lost {
			break
		}
		b.write(0, uint64(n)<<13, 8)
	}
	if n != 3 {
		b.failf("%d faults were delivered, and then one was lost", n)
	}
	b.noFaults()
}

// fpd sets FPD in an entry of device 0.
func fpd(b *bench, entry func(int) uint64) {
	t := b.attached(0, 1)
	b.attach(1, 1, t)
	b.mapPage(t, 1, 0x1000, 1)
	b.poke(entry(0), b.peek(entry(0))|1<<1)
	b.forget()
	b.expect(0, 0x1000, b.bus(1), true, "mapped")
	b.expect(0, 0x5000, b.bus(1), false, "not mapped")
	b.noFaults()
	b.write(1, 0x5000, 8)
	b.faults(b.absent(1, 0x5000, true))
	b.undo()
	b.forget()
	b.write(0, 0x5000, 8)
	b.faults(b.absent(0, 0x5000, true))
}

const interruptBase, interruptEnd = 0xfee0_0000, 0xfef0_0000

// clearBuffer has device 0 read zeros, so that its write of an interrupt is one
// of vector 0, which no processor takes.
func (b *bench) clearBuffer(iova uint64, n int) {
	clear(b.at(b.bus(n), probe))
	b.read(0, iova, probe)
}

func interruptWrite(b *bench) {
	t := b.attached(0, 1)
	b.mapPage(t, 1, 0x1000, 1)
	b.mapPage(t, 1, interruptBase, 2)
	b.clearBuffer(0x1000, 1)
	before := b.random(b.bus(2), page)
	b.write(0, interruptBase, 4)
	if !slices.Equal(b.at(b.bus(2), page), before) {
		b.failf("an interrupt went to the page that is mapped there")
	}
	b.noFaults()
}

func interruptRead(b *bench) {
	t := b.attached(0, 1)
	b.mapPage(t, 1, 0x1000, 1)
	b.mapPage(t, 1, interruptBase+0x3000, 2)
	b.random(b.bus(2), page)
	b.read(0, interruptBase+0x3000, 64)
	b.drain() // some units record it
	b.holdsZeros(0, 0x1000, b.bus(1), 64, "interrupt range")
}

func interruptAround(b *bench) {
	t := b.attached(0, 1)
	b.mapPage(t, 1, interruptBase-page, 1)
	b.mapPage(t, 1, interruptEnd, 2)
	b.copies(0, interruptBase-page, b.bus(1), interruptEnd, b.bus(2), MaxTransfer)
	b.copies(0, interruptEnd, b.bus(2), interruptBase-page, b.bus(1), MaxTransfer)
}

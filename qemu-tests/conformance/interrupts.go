package conformance

import (
	"encoding/binary"
	"fmt"

	"gommu/iommu/vtd"
)

// An interruptSpoil is a way to make the unit record that it blocked an interrupt:
// a device's message in remappable format (section 5.1.2.2). The driver does not
// remap interrupts; the case does by hand.
type interruptSpoil struct {
	reason    vtd.Reason
	what      string
	index     uint64 // in the table, which has 2 entries
	low, high uint64 // entry 0
	// qualified says that FPD in the entry keeps it out of the records.
	qualified bool
	// subhandle, if not 0, is written by DMA, with SHV: an MSI has 16 bits of data only.
	subhandle uint32
	nowhere   bool // the table is where no memory is
}

const (
	entryPresent  = 1 << 0
	entryQuiet    = 1 << 1 // FPD
	entryReserved = 1 << 12
	verifySource  = 1 << 18 // SVT 01b: the requester id is compared
)

var interruptSpoils = []interruptSpoil{
	{reason: 0x20, what: "interrupt request with reserved bits", subhandle: 0xffff_0000, low: entryPresent},
	{reason: 0x21, what: "interrupt beyond the table", index: 5},
	{reason: 0x22, what: "interrupt entry not present", qualified: true},
	{reason: 0x23, what: "interrupt table where no memory is", nowhere: true},
	{reason: 0x24, what: "interrupt entry with a reserved bit", low: entryPresent | entryReserved, qualified: true},
	{reason: 0x26, what: "interrupt of another device", low: entryPresent, high: verifySource | 0x1234, qualified: true},
}

// interruptCases makes a case of each.
func interruptCases() []Case {
	var all []Case
	for _, s := range interruptSpoils {
		all = append(all, Case{Name: fmt.Sprintf("reason/%02x %s", uint8(s.reason), s.what), About: s.reason.String(),
			needs: InterruptFault, ruins: true, run: s.run})
	}
	return all
}

func (s interruptSpoil) run(b *bench) {
	d, ok := b.dev[0].(InterruptDevice)
	if !ok || !b.unit.Capabilities().InterruptRemapping {
		b.skip("the unit does not remap interrupts, or the device's cannot be aimed")
	}
	t := b.attached(0, 1)
	b.mapPage(t, 1, 0x1000, 1)
	f, err := b.frames.Get()
	b.must(err)
	defer func() { b.must(b.frames.Put(f)) }()
	defer b.undo()
	b.poke(f.Bus, s.low)
	b.poke(f.Bus+8, s.high)
	table := f.Bus
	if s.nowhere {
		table = b.rig.Nowhere()
	}
	b.remapInterrupts(table)

	s.send(b, d)
	got, lost := b.drain()
	if len(got) != 1 || lost || got[0].Reason != s.reason || got[0].IOVA>>48 != s.index {
		b.failf("faults recorded %v, want %v of interrupt %#x", got, s.reason, s.index)
		return
	}
	// QEMU does not pass on who wrote an interrupt by DMA.
	if s.subhandle == 0 && got[0].Source != d.Source() {
		b.failf("the fault %v was recorded for another device", got[0])
	}
	if s.qualified {
		b.poke(f.Bus, s.low|entryQuiet)
		s.send(b, d)
		b.noFaults()
	}
}

// send has the device send the interrupt.
func (s interruptSpoil) send(b *bench, d InterruptDevice) {
	b.tell(vtd.AllInterrupts())
	const remappable, shv = 1 << 4, 1 << 3
	address := interruptBase | s.index<<5 | remappable
	if s.subhandle == 0 {
		b.must(d.Interrupt(b.ctx, address, 0))
		return
	}
	binary.LittleEndian.PutUint32(b.at(b.bus(1), 4), s.subhandle)
	b.read(0, 0x1000, 4)
	b.write(0, address|shv, 4)
}

// remapInterrupts has the unit remap interrupts by a table of 2 entries until undo
// (section 11.4.10, IRTA_REG).
func (b *bench) remapInterrupts(table uint64) {
	const gcmd, gsts, irta, pointer, enable, lasting = 0x18, 0x1c, 0xb8, 1 << 24, 1 << 25, 0x96ff_ffff
	regs := b.rig.Registers()
	command := func(bit, want uint32, on bool) {
		v := regs.Read32(gsts) & lasting &^ bit
		if on {
			v |= bit
		}
		regs.Write32(gcmd, v)
		for regs.Read32(gsts)&bit != want {
			b.must(b.ctx.Err())
		}
	}
	regs.Write64(irta, table)
	command(pointer, pointer, true)
	command(enable, enable, true)
	b.pokes = append(b.pokes, func() { command(enable, 0, false) })
}

package conformance

import (
	"fmt"
	"slices"

	"gommu/iommu/vtd"
	"gommu/pagetable"
)

// A spoil is a way to make the unit record one fault reason: an entry written by
// hand as the driver never would. Device 0 is attached, its page at spoilIOVA is
// mapped to data page 1 and was used. After it nothing is cached.
type spoil struct {
	reason vtd.Reason // by the specification
	what   string
	modes  []Mode
	read   bool   // the access is a read; else a write
	iova   uint64 // of the access; 0 is spoilIOVA
	do     func(b *bench, t *pagetable.Table)
	// tagged says that the access has a PASID; 5 is attached.
	tagged bool
	pasid  uint32
	// unqualified says that FPD cannot keep it out of the records (section 7.1.3).
	unqualified bool
}

const spoilIOVA = 0x7654_3000

var (
	legacy   = []Mode{Legacy}
	scalable = []Mode{ScalableSecond, ScalableFirst}
	second   = []Mode{ScalableSecond}
	first    = []Mode{ScalableFirst}
)

// Bits of entries, in the words that poke finds.
const (
	superpageBit = 1 << 7
	bit51        = 1 << 51 // beyond the host address width of every rung
	userBit      = 1 << 2  // U/S, first stage
	readBit      = 1 << 0
	writeBit     = 1 << 1
	accessedBit  = 1 << 5 // first stage
	accessBits   = readBit | writeBit | userBit
	addressBits  = 0x000f_ffff_ffff_f000
)

var spoils = []spoil{
	{reason: 0x01, what: "root entry not present", modes: legacy, unqualified: true, do: root(clearBits(1))},
	{reason: 0x02, what: "context entry not present", modes: legacy, do: contextWord(0, clearBits(1))},
	{reason: 0x03, what: "context entry of a reserved type", modes: legacy, do: contextWord(0, setBits(3<<2))},
	{reason: 0x03, what: "context entry of an address width that there is not", modes: legacy, do: contextWord(8, setBits(7))},
	{reason: 0x03, what: "context entry with a table where no memory is", modes: legacy, do: contextWord(0, nowhere)},
	{reason: 0x04, what: "address beyond the table", modes: legacy, iova: 1 << 50, do: nothing},
	{reason: 0x05, what: "write where only reads are allowed", modes: legacy, do: leafWord(clearBits(writeBit))},
	{reason: 0x05, what: "write where nothing is mapped", modes: legacy, iova: spoilIOVA + page, do: nothing},
	{reason: 0x06, what: "read where only writes are allowed", modes: legacy, read: true, do: leafWord(clearBits(readBit))},
	{reason: 0x06, what: "read below a table that only allows writes", modes: legacy, read: true, do: level(2, clearBits(readBit))},
	{reason: 0x07, what: "table where no memory is", modes: legacy, do: level(2, nowhere)},
	{reason: 0x07, what: "table below the root where no memory is", modes: legacy, read: true, do: level(4, nowhere)},
	{reason: 0x08, what: "root table where no memory is", modes: legacy, unqualified: true, do: rootTable},
	{reason: 0x09, what: "context table where no memory is", modes: legacy, unqualified: true, do: root(nowhere)},
	{reason: 0x0a, what: "root entry with a reserved bit", modes: legacy, unqualified: true, do: root(setBits(1 << 4))},
	{reason: 0x0b, what: "context entry with a reserved bit", modes: legacy, do: contextWord(0, setBits(1<<5))},
	{reason: 0x0c, what: "leaf beyond the host address width", modes: legacy, do: leafWord(setBits(bit51))},
	{reason: 0x0c, what: "link beyond the host address width", modes: legacy, read: true, do: level(3, setBits(bit51))},
	{reason: 0x0c, what: "superpage in the root", modes: legacy, do: level(4, setBits(superpageBit))},
	{reason: 0x0c, what: "superpage that is not aligned", modes: legacy, do: level(2, setBits(superpageBit|1<<13))},
	{reason: 0x0e, what: "page in the interrupt range", modes: legacy, do: leafWord(lead(0xfee0_0000))},

	{reason: 0x31, what: "PASID in legacy mode", modes: legacy, tagged: true, pasid: 5, unqualified: true, do: nothing},
	{reason: 0x45, what: "PASID that the context entry does not allow", modes: scalable, tagged: true, pasid: 5, do: contextWord(0, clearBits(1<<3))},
	{reason: 0x46, what: "PASID beyond the directory", modes: scalable, tagged: true, pasid: 0x7000, do: contextWord(0, clearBits(7<<9))},
	{reason: 0x48, what: "PASID of the requests without one", modes: scalable, tagged: true, pasid: 0, do: nothing},
	{reason: 0x59, what: "PASID that is not attached", modes: scalable, tagged: true, pasid: 6, do: nothing},

	{reason: 0x30, what: "root table address of a reserved mode", unqualified: true, do: rootMode},
	{reason: 0x38, what: "root table where no memory is", modes: scalable, unqualified: true, do: rootTable},
	{reason: 0x39, what: "root entry not present", modes: scalable, unqualified: true, do: root(clearBits(1))},
	{reason: 0x3a, what: "root entry with a reserved bit", modes: scalable, unqualified: true, do: root(setBits(1 << 4))},
	{reason: 0x40, what: "context table where no memory is", modes: scalable, unqualified: true, do: root(nowhere)},
	{reason: 0x41, what: "context entry not present", modes: scalable, do: contextWord(0, clearBits(1))},
	{reason: 0x42, what: "context entry with a reserved bit", modes: scalable, do: contextWord(0, setBits(1<<5))},
	{reason: 0x43, what: "PASID for requests without one beyond the directory", modes: scalable, do: contextWord(8, setBits(0xfffff))},
	{reason: 0x50, what: "PASID directory where no memory is", modes: scalable, unqualified: true, do: contextWord(0, nowhere)},
	{reason: 0x51, what: "PASID directory entry not present", modes: scalable, do: directory(clearBits(1))},
	{reason: 0x52, what: "PASID directory entry with a reserved bit", modes: scalable, do: directory(setBits(1 << 5))},
	{reason: 0x58, what: "PASID table where no memory is", modes: scalable, unqualified: true, do: directory(nowhere)},
	{reason: 0x59, what: "PASID entry not present", modes: scalable, do: pasid(0, clearBits(1))},
	{reason: 0x5a, what: "PASID entry with a reserved bit", modes: scalable, do: pasid(56, setBits(1<<5))},
	{reason: 0x5b, what: "PASID entry of a reserved type", modes: scalable, do: pasid(0, clearBits(7<<6))},
	{reason: 0x5b, what: "PASID entry of an address width that there is not", modes: second, do: pasid(0, setBits(7<<2))},
	{reason: 0x5b, what: "PASID entry of a number of levels that there is not", modes: first, do: pasid(16, setBits(3<<2))},

	{reason: 0x70, what: "table where no memory is", modes: first, do: level(2, nowhere)},
	{reason: 0x71, what: "leaf not present", modes: first, do: leafWord(clearBits(1))},
	{reason: 0x71, what: "link not present", modes: first, read: true, do: level(3, clearBits(1))},
	{reason: 0x72, what: "leaf beyond the host address width", modes: first, do: leafWord(setBits(bit51))},
	{reason: 0x72, what: "superpage in the root", modes: first, do: level(4, setBits(superpageBit))},
	{reason: 0x72, what: "superpage that is not aligned", modes: first, do: level(2, setBits(superpageBit|1<<13))},
	{reason: 0x73, what: "root of the table where no memory is", modes: first, do: pasid(16, nowhere)},
	{reason: 0x80, what: "address not canonical", modes: first, iova: 1 << 50, do: nothing},
	{reason: 0x81, what: "leaf not for users", modes: first, do: leafWord(clearBits(userBit))},
	{reason: 0x81, what: "link not for users", modes: first, read: true, do: level(3, clearBits(userBit))},
	{reason: 0x85, what: "write where only reads are allowed", modes: first, do: leafWord(clearBits(writeBit))},
	{reason: 0x85, what: "write below a table that only allows reads", modes: first, do: level(2, clearBits(writeBit))},
	{reason: 0x87, what: "page in the interrupt range", modes: scalable, do: leafWord(lead(0xfee0_0000))},
	{reason: 0x90, what: "accessed bit to be set by a unit that does not snoop", modes: first, do: leafWord(clearBits(accessedBit))},
	{reason: 0x91, what: "accessed bit in memory that cannot be written", modes: first, do: readOnlyLeaf},

	{reason: 0x78, what: "table where no memory is", modes: second, do: level(2, nowhere)},
	{reason: 0x79, what: "leaf without any permission", modes: second, do: leafWord(clearBits(readBit | writeBit))},
	{reason: 0x79, what: "link without any permission", modes: second, read: true, do: level(3, clearBits(readBit|writeBit))},
	{reason: 0x7a, what: "leaf beyond the host address width", modes: second, do: leafWord(setBits(bit51))},
	{reason: 0x7a, what: "superpage in the root", modes: second, do: level(4, setBits(superpageBit))},
	{reason: 0x7a, what: "superpage that is not aligned", modes: second, do: level(2, setBits(superpageBit|1<<13))},
	{reason: 0x7b, what: "root of the table where no memory is", modes: second, do: pasid(0, nowhere)},
	{reason: 0x84, what: "address beyond the table", modes: second, iova: 1 << 50, do: nothing},
	{reason: 0x85, what: "write where only reads are allowed", modes: second, do: leafWord(clearBits(writeBit))},
	{reason: 0x86, what: "read where only writes are allowed", modes: second, read: true, do: leafWord(clearBits(readBit))},
	{reason: 0x86, what: "read below a table that only allows writes", modes: second, read: true, do: level(2, clearBits(readBit))},
}

// reasonCases makes a case of each spoil.
func reasonCases() []Case {
	var all []Case
	for _, s := range spoils {
		c := Case{
			Name:  fmt.Sprintf("reason/%02x %s", uint8(s.reason), s.what),
			About: s.reason.String(),
			modes: s.modes, ruins: true, run: s.run,
		}
		if s.tagged {
			c.needs = PASIDs
		}
		all = append(all, c)
	}
	return all
}

func (s spoil) run(b *bench) {
	t := b.attached(0, 1)
	b.mapPage(t, 1, spoilIOVA, 1)
	b.mapPage(t, 1, 0x1000, 2)
	b.expect(0, spoilIOVA, b.bus(1), true, "before anything is wrong")
	b.noFaults()
	s.attachPASID(b, t)
	if s.iova == 0 {
		s.iova = spoilIOVA
	}
	want := b.recorded(blocked{s.reason, 0, s.iova, !s.read})
	b.forget()
	s.do(b, t)
	if s.reason != 0x30 { // in which the unit takes no invalidations
		b.forget()
	}
	s.access(b)
	b.faultsAre([]vtd.Fault{want})
	if s.unqualified || slices.Contains(b.traits.Unqualified, want.Reason) {
		s.repair(b)
		return
	}
	// Faults that are qualified are not recorded with FPD in the context entry.
	b.poke(b.contextEntry(0), b.peek(b.contextEntry(0))|1<<1)
	b.forget()
	s.access(b)
	if got, lost := b.drain(); len(got) != 0 || lost {
		b.failf("recorded with FPD set: %v", got)
	}
	s.repair(b)
}

// attachPASID lets the device reach the same with a PASID, where there is such.
func (s spoil) attachPASID(b *bench, t *pagetable.Table) {
	if s.tagged && b.mode != Legacy {
		b.must(b.unit.AttachPASID(b.dev[0].Source(), 5, 1, t))
	}
}

// access does the access, which must not pass.
func (s spoil) access(b *bench) {
	if s.tagged {
		write := func() { b.must(b.dev[0].(PASIDDevice).WritePASID(b.ctx, s.pasid, s.iova, probe)) }
		if b.reachesBy(write, b.bus(1)) {
			b.failf("%s: the device reaches its page", s.what)
		}
		return
	}
	if !s.read {
		b.expect(0, s.iova, b.bus(1), false, s.what)
		return
	}
	b.random(b.bus(1), probe)
	b.read(0, s.iova, probe)
}

// repair undoes what was written by hand. The device reaches its page again; if it
// has read, it got zeros.
func (s spoil) repair(b *bench) {
	b.undo()
	b.forget()
	if s.read {
		b.holdsZeros(0, 0x1000, b.bus(2), probe, s.what)
	}
	b.expect(0, spoilIOVA, b.bus(1), true, "repaired")
	b.noFaults()
}

// A change is what becomes of a word.
type change func(b *bench, word uint64) uint64

func setBits(v uint64) change   { return func(_ *bench, w uint64) uint64 { return w | v } }
func clearBits(v uint64) change { return func(_ *bench, w uint64) uint64 { return w &^ v } }
func lead(bus uint64) change {
	return func(_ *bench, w uint64) uint64 { return w&^addressBits | bus }
}
func nowhere(b *bench, w uint64) uint64 { return w&^addressBits | b.rig.Nowhere() }

func nothing(*bench, *pagetable.Table) {}

func root(c change) func(*bench, *pagetable.Table) {
	return func(b *bench, _ *pagetable.Table) { b.spoil(b.rootEntry(0), c) }
}

func contextWord(off uint64, c change) func(*bench, *pagetable.Table) {
	return func(b *bench, _ *pagetable.Table) { b.spoil(b.contextEntry(0)+off, c) }
}

func directory(c change) func(*bench, *pagetable.Table) {
	return func(b *bench, _ *pagetable.Table) { b.spoil(b.directoryEntry(0), c) }
}

func pasid(off uint64, c change) func(*bench, *pagetable.Table) {
	return func(b *bench, _ *pagetable.Table) { b.spoil(b.pasidEntry(0)+off, c) }
}

func level(n int, c change) func(*bench, *pagetable.Table) {
	return func(b *bench, t *pagetable.Table) { b.spoil(b.pageEntry(t, spoilIOVA, n), c) }
}

func leafWord(c change) func(*bench, *pagetable.Table) { return level(1, c) }

func (b *bench) spoil(bus uint64, c change) { b.poke(bus, c(b, b.peek(bus))) }

// rootTable moves the root table to where no memory is.
func rootTable(b *bench, _ *pagetable.Table) {
	b.setRoot(func(v uint64) uint64 { return v&^addressBits | b.rig.Nowhere() })
}

// rootMode asks for a mode that there is not (TTM 10b, section 11.4.5).
func rootMode(b *bench, _ *pagetable.Table) {
	b.setRoot(func(v uint64) uint64 { return v&^(3<<10) | 2<<10 })
}

// setRoot sets another root table pointer until undo.
func (b *bench) setRoot(f func(uint64) uint64) {
	old := b.rig.Registers().Read64(regRTADDR)
	b.setRootPointer(f(old))
	b.pokes = append(b.pokes, func() { b.setRootPointer(old) })
}

// A readOnlyTable is a rig that has a last-level first-stage table of which all
// entries lead to some page, with A clear, in memory that the unit cannot write.
type readOnlyTable interface {
	ReadOnlyTable() (bus uint64, err error)
}

func readOnlyLeaf(b *bench, t *pagetable.Table) {
	r, ok := b.rig.(readOnlyTable)
	if !ok {
		b.skip("there is no memory that the unit can read and not write")
	}
	bus, err := r.ReadOnlyTable()
	b.must(err)
	b.spoil(b.pageEntry(t, spoilIOVA, 2), lead(bus))
}

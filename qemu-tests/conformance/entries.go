package conformance

import (
	"sync/atomic"

	"gommu/internal/cacheline"
	"gommu/iommu/vtd"
	"gommu/pagetable"
)

// Cases that break what the driver never would write entries by hand. They find
// them as the unit does, from RTADDR_REG on (sections 9.1 to 9.8).
const regRTADDR = 0x20

// word is a word of a table, by its bus address.
func (b *bench) word(bus uint64) *uint64 {
	e := b.mem.Entries(pagetable.Frame{Bus: bus &^ (page - 1)})
	if e == nil {
		b.fatalf("no table at %#x", bus)
	}
	return &e[bus%page/8]
}

func (b *bench) peek(bus uint64) uint64 { return atomic.LoadUint64(b.word(bus)) }

// poke stores a word as a unit that does not snoop can see it.
// undo takes it back.
func (b *bench) poke(bus, v uint64) {
	old := b.peek(bus)
	b.pokes = append(b.pokes, func() { b.store(bus, old) })
	b.store(bus, v)
}

func (b *bench) store(bus, v uint64) {
	atomic.StoreUint64(b.word(bus), v)
	cacheline.Flush(b.mem.Entries(pagetable.Frame{Bus: bus &^ (page - 1)})[bus%page/8:][:1])
	cacheline.Fence()
}

// undo takes back what was written by hand, the last first. Cases that fail are
// undone, too: the driver must find its own entries.
func (b *bench) undo() {
	for len(b.pokes) > 0 {
		n := len(b.pokes) - 1
		b.pokes[n]()
		b.pokes = b.pokes[:n]
	}
}

// setRootPointer gives the unit another root table while it is translating (section
// 11.4.4.1).
func (b *bench) setRootPointer(v uint64) {
	const gcmd, gsts, srtp, lasting = 0x18, 0x1c, 1 << 30, 0x96ff_ffff
	regs := b.rig.Registers()
	regs.Write64(regRTADDR, v)
	regs.Write32(gcmd, regs.Read32(gsts)&lasting|srtp)
	for regs.Read32(gsts)&srtp == 0 {
		b.must(b.ctx.Err())
	}
}

func next(entry uint64) uint64 { return entry & 0x000f_ffff_ffff_f000 }

// rootEntry, contextEntry, directoryEntry and pasidEntry are the bus addresses
// of what leads from device i to its table; the latter two of PASID 0.
func (b *bench) rootEntry(i int) uint64 {
	root, source := next(b.rig.Registers().Read64(regRTADDR)), uint64(b.dev[i].Source())
	if b.mode == Legacy {
		return root + source>>8*16
	}
	return root + source>>7*8
}

func (b *bench) contextEntry(i int) uint64 {
	table, source := next(b.peek(b.rootEntry(i))), uint64(b.dev[i].Source())
	if b.mode == Legacy {
		return table + source&0xff*16
	}
	return table + source&0x7f*32
}

func (b *bench) directoryEntry(i int) uint64 { return next(b.peek(b.contextEntry(i))) }
func (b *bench) pasidEntry(i int) uint64     { return next(b.peek(b.directoryEntry(i))) }

// tableWord is the word that leads device i to its page table, and domainWord the
// one with its domain id, which is shift bits up.
func (b *bench) tableWord(i int) uint64 {
	switch b.mode {
	case Legacy:
		return b.contextEntry(i)
	case ScalableFirst:
		return b.pasidEntry(i) + 16
	default:
		return b.pasidEntry(i)
	}
}

func (b *bench) domainWord(i int) (bus uint64, shift uint) {
	if b.mode == Legacy {
		return b.contextEntry(i) + 8, 8
	}
	return b.pasidEntry(i) + 8, 0
}

// setDomain writes the domain id of device i.
func (b *bench) setDomain(i int, id uint64) {
	at, shift := b.domainWord(i)
	b.poke(at, b.peek(at)&^(0xffff<<shift)|id<<shift)
}

// setTable writes the page table of device i.
func (b *bench) setTable(i int, t *pagetable.Table) {
	at := b.tableWord(i)
	b.poke(at, b.peek(at)&^next(^uint64(0))|t.Root().Bus)
}

// pageEntry is the bus address of the entry for iova in a table of t: of level
// 1 for 4 KiB leaves, and so on up.
func (b *bench) pageEntry(t *pagetable.Table, iova uint64, level int) uint64 {
	at := t.Root().Bus
	for l := t.Levels(); ; l-- {
		entry := at + iova>>(12+9*(l-1))&511*8
		if l == level {
			return entry
		}
		at = next(b.peek(entry))
	}
}

// forget drops everything that the unit has cached.
func (b *bench) forget() { b.must(b.unit.InvalidateAll()) }

// tell submits invalidations one after the other.
func (b *bench) tell(all ...vtd.Invalidation) {
	for _, v := range all {
		b.must(b.unit.Submit(b.ctx, v))
	}
}

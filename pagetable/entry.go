package pagetable

import "math/bits"

// The second-stage format (VT-d specification §3.7, §9.8). A table has 512
// entries of eight bytes; the table at level 0 translates IOVA bits 20:12, the
// one at level 1 bits 29:21, and so on up. An entry with R = W = 0 is not
// present and the unit ignores the rest of it. A present one is
//
//	bit  0      R, reads allowed
//	bit  1      W, writes allowed
//	bit  7      PS: at levels 1 and 2 the entry is a leaf (a superpage); ignored at level 0,
//	            reserved at level 3
//	bit 11      SNP: reserved unless the unit has snoop control; 0 here
//	bits 51:12  bus address of the leaf or of the next table; a superpage's low bits are 0,
//	            and so are the ones at and above the platform's host address width
//	bit 10, bits 60:52, bit 63  ignored
//	bit 61, bit 62              ignored or reserved, by level and revision; 0 here
//
// R and W are ANDed over the levels, so only leaves restrict.
//
// In an entry that points to a table we keep the number of entries in use in
// that table, less one, in bits 60:52. So the unmap that empties a table sees it
// without a scan, in the word that it then clears; a table in use never has a
// count of none. That units ignore these bits at every level: Linux keeps software
// bits of its own there (vtdss_pt_sw_bit in generic_pt/fmt/vtdss.h: 10, 52 to 60,
// 63); earlier revisions let bit 61 be ignored too and reserve 62 (VirtualBox,
// iommu-intel.h: IGN_61_52, RSVD_62; QEMU, VTD_SL_IGN_COM).
const (
	bitRead  = 1 << 0
	bitWrite = 1 << 1
	bitLeaf  = 1 << 7

	addrMask = (1<<busBits - 1) &^ (FrameSize - 1)

	countShift = 52
	countMask  = 0x1ff << countShift
	countOne   = 1 << countShift

	entries   = 512 // in a table
	indexBits = 9   // of an IOVA that one level translates
	pageBits  = 12
	superTop  = 2 // the highest level that can hold leaves: 1 GiB
	maxLevels = 4
)

// Prot says what a device may do with a mapping.
type Prot uint8

const (
	Read  Prot = bitRead  // the device may read
	Write Prot = bitWrite // the device may write
)

// String returns "r", "w", "rw", or "-" for no permission.
func (p Prot) String() string {
	return [...]string{"-", "r", "w", "rw"}[p&(Read|Write)]
}

// A Leaf is one translation: Size bytes of IOVA space at IOVA reach memory at
// Bus. Size is 4 KiB, 2 MiB or 1 GiB, and both addresses are multiples of it.
type Leaf struct {
	IOVA, Bus, Size uint64
	Prot            Prot
}

// pte is one word of a table.
type pte uint64

func leafEntry(bus uint64, prot Prot, level int) pte {
	e := pte(bus) | pte(prot)
	if level > 0 {
		e |= bitLeaf
	}
	return e
}

// tableEntry points to the table at bus, of which used entries are in use.
func tableEntry(bus uint64, used int) pte {
	return pte(bus) | bitRead | bitWrite | pte(used-1)<<countShift
}

func (e pte) present() bool       { return e&(bitRead|bitWrite) != 0 }
func (e pte) leaf(level int) bool { return level == 0 || e&bitLeaf != 0 && level <= superTop }
func (e pte) bus() uint64         { return uint64(e) & addrMask }
func (e pte) prot() Prot          { return Prot(e & (bitRead | bitWrite)) }
func (e pte) used() int           { return int(e&countMask>>countShift) + 1 }

// shift is the number of IOVA bits below an entry of level.
func shift(level int) int { return pageBits + indexBits*level }

// span is the number of bytes that an entry of level translates.
func span(level int) uint64 { return 1 << (pageBits + indexBits*uint(level)) }

// index is the entry that translates iova in its table of level.
func index(iova uint64, level int) int {
	return int(iova>>(uint(pageBits+indexBits*level)&63)) & (entries - 1)
}

// whole is the last IOVA of the entry of level that translates iova.
func whole(iova uint64, level int) uint64 { return iova | (span(level) - 1) }

// leafLevel is the highest level, at most top, at which iova and bus leave
// the same offset: the largest leaves that can map the one to the other.
func leafLevel(iova, bus uint64, top int) int {
	return min((bits.TrailingZeros64((iova^bus)|1<<shift(superTop))-pageBits)/indexBits, top)
}

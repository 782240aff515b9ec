package pagetable

import "math/bits"

// What all formats share. A table has 512 entries of eight bytes; the table at
// level 0 translates IOVA bits 20:12, the one at level 1 bits 29:21, and so on
// up. Bits 51:12 of an entry are the bus address of the leaf or of the next
// table; bit 7, PS, makes an entry at level 1 or 2 a leaf (a superpage). An
// entry that is not in use is zero. What differs is in format.go.
const (
	bitLeaf  = 1 << 7
	addrMask = (1<<busBits - 1) &^ (FrameSize - 1)

	entries   = 512 // in a table
	indexBits = 9   // of an IOVA that one level translates
	pageBits  = 12
	superTop  = 2 // the highest level that can hold leaves: 1 GiB
	maxLevels = 5
)

// Prot says what a device may do with a mapping.
type Prot uint8

const (
	Read  Prot = 1 << iota // the device may read
	Write                  // the device may write
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

func (e pte) leaf(level int) bool { return level == 0 || e&bitLeaf != 0 && level <= superTop }
func (e pte) bus() uint64         { return uint64(e) & addrMask }

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

// clip is the part of [iova, last] that entry i of a table of level
// translates; the table is the one that translates iova.
func clip(level, i int, iova, last uint64) (uint64, uint64) {
	start := iova&^(span(level+1)-1) + uint64(i)*span(level)
	return max(start, iova), min(start+span(level)-1, last)
}

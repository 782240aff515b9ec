package pagetable

import (
	"fmt"
	"slices"
)

// walker reads tables as a VT-d unit does, out of raw memory and with nothing
// of this package's code: from the specification's description of second-stage
// (§3.7, §9.8) and first-stage paging (§3.6, §9.7). It is stricter than a
// unit: what the unit ignores but the tables should not contain is an error too,
// and so is what Linux's vtdss.h and x86_64.h would not write.
type walker struct {
	bytes  []byte // what the unit reads
	bus    uint64 // of bytes[0]
	root   uint64
	levels int
	first  bool               // first stage
	held   bool               // tables may be empty
	marks  map[entryID]uint64 // not nil: words that are not present may be marks, and are put here
	marked bool               // the unit or a harvest may have changed the marks of leaves
}

// hwLeaf is a translation that the walker found.
type hwLeaf struct {
	iova, bus, size uint64
	r, w            bool
}

// hwError is why the walker dislikes the tables.
type hwError struct{ what string }

func (e hwError) Error() string { return e.what }

func bad(format string, args ...any) error { return hwError{fmt.Sprintf(format, args...)} }

// word is the entry at a bus address.
func (w *walker) word(bus uint64) (uint64, error) {
	off := bus - w.bus
	if off >= uint64(len(w.bytes)) {
		return 0, bad("entry at %#x lies outside the table memory", bus)
	}
	return le64(w.bytes[off:]), nil
}

// present is what makes an entry valid: P in the first stage, read or write
// permission in the second.
func (w *walker) present(e uint64) bool {
	if w.first {
		return e&1 != 0
	}
	return e&0b11 != 0
}

// extend repeats the highest bit that a first stage translates.
func (w *walker) extend(iova uint64) uint64 {
	unused := 64 - (12 + 9*w.levels)
	if w.first {
		return uint64(int64(iova<<unused) >> unused)
	}
	return iova << unused >> unused
}

// translate walks for one IOVA.
func (w *walker) translate(iova uint64) (l hwLeaf, ok bool, err error) {
	if iova != w.extend(iova) {
		return hwLeaf{}, false, nil
	}
	table, r, wr := w.root, true, true
	for depth := w.levels; depth >= 1; depth-- {
		shift := 12 + 9*(depth-1)
		e, err := w.word(table + 8*(iova>>shift&0x1ff))
		if err != nil || !w.present(e) {
			return hwLeaf{}, false, err
		}
		r, wr = r && e&1 != 0, wr && e&2 != 0
		isLeaf, err := w.checkWord(e, depth)
		if err != nil {
			return hwLeaf{}, false, fmt.Errorf("iova %#x depth %d: %w", iova, depth, err)
		}
		addr := e & 0x000f_ffff_ffff_f000
		if isLeaf {
			size := uint64(1) << shift
			return hwLeaf{iova &^ (size - 1), addr, size, r, wr}, true, nil
		}
		table = addr
	}
	panic("unreachable")
}

// checkWord says whether a present entry is a leaf, and what is wrong with it.
// depth 1 is the table of 4 KiB leaves.
func (w *walker) checkWord(e uint64, depth int) (leaf bool, err error) {
	const address = 0x000f_ffff_ffff_f000
	if e>>52 != 0 {
		return false, bad("bits 52-63 of %#x are not zero", e)
	}
	leaf = depth == 1 || e>>7&1 != 0
	low := e &^ address
	switch {
	case depth == 1 && e>>7&1 != 0:
		return false, bad("PS (or PAT) is set in the 4 KiB leaf %#x", e)
	case depth > 3 && leaf:
		return false, bad("PS is set in %#x, too high for a superpage", e)
	case leaf && e&address&(1<<(12+9*(depth-1))-1) != 0:
		return true, bad("the superpage %#x is not aligned", e)
	}
	low &^= 1 << 7
	var want []uint64
	switch {
	case !w.first && leaf:
		want = []uint64{1, 2, 3} // R, W
	case !w.first:
		want = []uint64{3}
	case leaf && w.marked:
		low |= 0x60
		want = []uint64{0x65, 0x67}
	case leaf:
		want = []uint64{0x25, 0x67, 0x65} // P U A; with RW D; and that made read-only
	default:
		want = []uint64{0x27} // P RW U A
	}
	if !slices.Contains(want, low) {
		return leaf, bad("bits 0-11 of %#x are none of %#x", e, want)
	}
	return leaf, nil
}

// scan reads the whole tree. It returns the leaves in ascending order and the
// bus addresses of the tables, and reports tables that are shared, empty, or
// contain words that are neither zero nor present.
func (w *walker) scan() (leaves []hwLeaf, tables map[uint64]bool, err error) {
	tables = make(map[uint64]bool)
	var visit func(table uint64, depth int, base uint64) (int, error)
	visit = func(table uint64, depth int, base uint64) (used int, err error) {
		if tables[table] {
			return 0, bad("table %#x is in the tree twice", table)
		}
		tables[table] = true
		for i := range uint64(512) {
			e, err := w.word(table + 8*i)
			if err != nil {
				return 0, err
			}
			iova := w.extend(base + i<<(12+9*(depth-1)))
			if w.marks != nil && !w.present(e) && e&0xfff == 0x550 {
				w.marks[entryID{depth, iova}] = e
				continue
			}
			if e == 0 {
				continue
			}
			used++
			if !w.present(e) {
				return 0, bad("%#x at iova %#x is neither zero nor present", e, iova)
			}
			leaf, err := w.checkWord(e, depth)
			if err != nil {
				return 0, fmt.Errorf("iova %#x depth %d: %w", iova, depth, err)
			}
			addr := e & 0x000f_ffff_ffff_f000
			if leaf {
				leaves = append(leaves, hwLeaf{iova, addr, 1 << (12 + 9*(depth-1)), e&1 != 0, e&2 != 0})
				continue
			}
			n, err := visit(addr, depth-1, iova)
			if err != nil {
				return 0, err
			}
			if n == 0 && !w.held {
				return 0, bad("table %#x for iova %#x is empty", addr, iova)
			}
		}
		return used, nil
	}
	_, err = visit(w.root, w.levels, 0)
	return leaves, tables, err
}

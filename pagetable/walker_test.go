package pagetable

import "fmt"

// walker reads tables as a VT-d unit does, out of raw memory and with nothing
// of this package's code: from the specification's description of second-stage
// paging (§3.7, §9.8). It is stricter than a unit: what the unit ignores but
// the tables should not contain is an error too.
type walker struct {
	bytes  []byte // what the unit reads
	bus    uint64 // of bytes[0]
	root   uint64
	levels int
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

// present is what makes a second-stage entry valid: read or write permission.
func hwPresent(e uint64) bool { return e&0b11 != 0 }

// translate walks for one IOVA.
func (w *walker) translate(iova uint64) (l hwLeaf, ok bool, err error) {
	bits := 12 + 9*w.levels
	if iova>>bits != 0 {
		return hwLeaf{}, false, nil
	}
	table, r, wr := w.root, true, true
	for depth := w.levels; depth >= 1; depth-- {
		shift := 12 + 9*(depth-1)
		e, err := w.word(table + 8*(iova>>shift&0x1ff))
		if err != nil || !hwPresent(e) {
			return hwLeaf{}, false, err
		}
		r, wr = r && e&1 != 0, wr && e&2 != 0
		isLeaf, err := checkWord(e, depth)
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
func checkWord(e uint64, depth int) (leaf bool, err error) {
	ps := e>>7&1 != 0
	switch {
	case e&(1<<11) != 0:
		return false, bad("SNP is set in %#x", e)
	case e&0b0111_0111_1100 != 0:
		return false, bad("bits 2-6 and 8-10 of %#x are not zero", e)
	case e>>61 != 0:
		return false, bad("bits 61-63 of %#x are not zero", e)
	case depth == 1 && ps:
		return false, bad("PS is set in the 4 KiB leaf %#x", e)
	case depth > 3 && ps:
		return false, bad("PS is set in %#x, too high for a superpage", e)
	}
	leaf = depth == 1 || ps
	if !leaf {
		if e&0b11 != 0b11 {
			return false, bad("%#x restricts what the leaves below it allow", e)
		}
		return false, nil
	}
	if e>>52 != 0 {
		return true, bad("bits 52-63 of the leaf %#x are not zero", e)
	}
	if low := uint64(1)<<(12+9*(depth-1)) - 1; e&0x000f_ffff_ffff_f000&low != 0 {
		return true, bad("the superpage %#x is not aligned", e)
	}
	return true, nil
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
			if e == 0 {
				continue
			}
			used++
			iova := base + i<<(12+9*(depth-1))
			if !hwPresent(e) {
				return 0, bad("%#x at iova %#x is neither zero nor present", e, iova)
			}
			leaf, err := checkWord(e, depth)
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
			if n == 0 {
				return 0, bad("table %#x for iova %#x is empty", addr, iova)
			}
		}
		return used, nil
	}
	_, err = visit(w.root, w.levels, 0)
	return leaves, tables, err
}

package dmar

import (
	"cmp"
	"fmt"
	"slices"
)

// checkPath checks the steps of a scope. The steps of unknown types may mean
// something else.
func (s Scope) checkPath() error {
	if !s.Type.known() {
		return nil
	}
	for _, p := range s.Path {
		if p.Device > 31 || p.Function > 7 {
			return fmt.Errorf("no function has the address %02x.%x", p.Device, p.Function)
		}
	}
	// Section 8.3.1: bus and path of these are their requester id.
	if (s.Type == ScopeHPET || s.Type == ScopeNamespace) && len(s.Path) != 1 {
		return fmt.Errorf("%d steps, a scope of type %s has one", len(s.Path), s.Type)
	}
	return nil
}

// checkRegisters checks where a unit's registers are. Broken firmware is known to report units
// at 0.
func (s structure) checkRegisters(u DRHD) error {
	switch {
	case u.Base == 0:
		return s.bad(ErrAddress, "the registers are at 0")
	case u.Base%u.Size != 0:
		return s.bad(ErrAddress, "the registers at %#x are not aligned to their size %#x", u.Base, u.Size)
	}
	return nil
}

// checkUnits compares the units with each other. offsets are theirs in the table.
func (t *Table) checkUnits(offsets []int) error {
	all := make(map[uint16]int)
	ranges := make([]addresses, 0, len(t.Units))
	for i, u := range t.Units {
		if u.IncludeAll {
			if first, ok := all[u.Segment]; ok {
				return bad("DRHD", offsets[i], ErrDuplicate, "the unit at offset %#x also has INCLUDE_PCI_ALL in segment %04x", first, u.Segment)
			}
			all[u.Segment] = offsets[i]
		}
		// Aligned to its size, a range does not wrap around.
		ranges = append(ranges, addresses{u.Base, u.Base + (u.Size - 1), offsets[i]})
	}
	if a, b, ok := overlap(ranges); ok {
		return bad("DRHD", b.offset, ErrOverlap, "the registers at %#x are also those of the unit at offset %#x", max(a.base, b.base), a.offset)
	}
	return nil
}

// checkReserved compares the reserved regions with each other.
func (t *Table) checkReserved(offsets []int) error {
	ranges := make([]addresses, 0, len(t.Reserved))
	for i, r := range t.Reserved {
		ranges = append(ranges, addresses{r.Base, r.Limit, offsets[i]})
	}
	if a, b, ok := overlap(ranges); ok {
		return bad("RMRR", b.offset, ErrOverlap, "%#x to %#x and, at offset %#x, %#x to %#x", b.base, b.limit, a.offset, a.base, a.limit)
	}
	return nil
}

// addresses is a range of addresses and the structure that has it.
type addresses struct {
	base, limit uint64
	offset      int
}

// overlap finds two ranges that share an address, the one with the smaller offset first. It
// sorts its argument.
func overlap(ranges []addresses) (a, b addresses, found bool) {
	slices.SortFunc(ranges, func(x, y addresses) int { return cmp.Compare(x.base, y.base) })
	for i := 1; i < len(ranges); i++ {
		// Neighbours are enough: what overlaps a later range overlaps the next one too.
		if a, b = ranges[i-1], ranges[i]; b.base <= a.limit {
			if a.offset > b.offset {
				a, b = b, a
			}
			return a, b, true
		}
	}
	return addresses{}, addresses{}, false
}

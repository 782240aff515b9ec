package pagetable

// Stage says which of a unit's two translations a table is for. The entries of
// the two look different.
type Stage uint8

const (
	// SecondStage tables have 39, 48 or 57 bits (VT-d specification §3.7, §9.8).
	SecondStage Stage = iota

	// FirstStage tables have 48 or 57 bits (§3.6, §9.7), the layout of the
	// processor's own. Their IOVAs are canonical: the highest bit that is
	// translated is repeated in all bits above it, so one half of the space is
	// at its bottom and one at its top. They cannot forbid reads.
	FirstStage
)

// String returns "second stage" or "first stage".
func (s Stage) String() string {
	if s == FirstStage {
		return "first stage"
	}
	return "second stage"
}

// A format is the layout of one stage's entries, known when the core is
// compiled: a type parameter's methods would be called through a dictionary,
// but the length of an array type is a constant in the code compiled for it, so
// isFirst and what depends on it fold away.
type format interface{ secondFormat | firstFormat }

type (
	secondFormat [0]struct{}
	firstFormat  [1]struct{}
)

// core is a Table whose format is known.
type core[F format] struct{ *Table }

func isFirst[F format]() bool {
	var f F
	return len(f) == 1
}

// An entry of the second stage with R = W = 0 is not present and the unit
// ignores the rest of it. The permissions are ANDed over the levels, so links
// allow everything. Bit 11, SNP, is reserved unless the unit has snoop control.
const (
	secondRead     = 1 << 0
	secondWrite    = 1 << 1
	secondAccessed = 1 << 8 // ignored unless the unit tracks use (ECAP.SLADS)
	secondDirty    = 1 << 9
)

// An entry of the first stage with P = 0 is not present. A request without
// PASID is a user's, so U is set everywhere; RW of links allows everything.
// Accessed and dirty are set from the start, as Linux does, so that the unit
// has no reason to write to tables.
const (
	firstPresent  = 1 << 0
	firstWrite    = 1 << 1
	firstUser     = 1 << 2
	firstAccessed = 1 << 5
	firstDirty    = 1 << 6
)

// leafEntry maps bus.
func leafEntry[F format](bus uint64, prot Prot, level int) pte {
	e := pte(bus)
	if level > 0 {
		e |= bitLeaf
	}
	if !isFirst[F]() {
		return e | pte(prot)
	}
	if prot&Write != 0 {
		e |= firstWrite | firstDirty
	}
	return e | firstPresent | firstUser | firstAccessed
}

// pageBitsOf is what a leaf of 4 KiB has beside the bus address, or 0 if it cannot express prot.
func pageBitsOf(s Stage, prot Prot) uint64 {
	switch {
	case s == FirstStage && allowed[firstFormat](prot):
		return uint64(leafEntry[firstFormat](0, prot, 0))
	case s == SecondStage && allowed[secondFormat](prot):
		return uint64(leafEntry[secondFormat](0, prot, 0))
	}
	return 0
}

// linkEntry points to the table at bus.
func linkEntry[F format](bus uint64) pte {
	if isFirst[F]() {
		return pte(bus) | firstPresent | firstWrite | firstUser | firstAccessed
	}
	return pte(bus) | secondRead | secondWrite
}

// present says that a unit follows e.
func present[F format](e pte) bool {
	if isFirst[F]() {
		return e&firstPresent != 0
	}
	return e&(secondRead|secondWrite) != 0
}

// link says that e, of level, points to a table.
func link[F format](e pte, level int) bool { return present[F](e) && !e.leaf(level) }

// present is the same for a table whose format is not known.
func (t *Table) present(e pte) bool {
	if t.stage == FirstStage {
		return present[firstFormat](e)
	}
	return present[secondFormat](e)
}

// protOf is the permission of a leaf.
func protOf[F format](e pte) Prot {
	if !isFirst[F]() {
		return Prot(e & (secondRead | secondWrite))
	}
	return Read | Prot(e)&Write
}

// withProt is the leaf e with another permission.
func withProt[F format](e pte, prot Prot) pte {
	switch {
	case !isFirst[F]():
		return e&^(secondRead|secondWrite) | pte(prot)
	case prot&Write != 0:
		return e | firstWrite | firstDirty
	}
	return e &^ firstWrite
}

// allowed says that the format can express prot.
func allowed[F format](prot Prot) bool {
	if isFirst[F]() {
		return prot == Read || prot == Read|Write
	}
	return prot != 0 && prot&^(Read|Write) == 0
}

// The bits of an entry that the unit sets when it uses it.
func accessed[F format]() pte {
	if isFirst[F]() {
		return firstAccessed
	}
	return secondAccessed
}

func dirty[F format]() pte {
	if isFirst[F]() {
		return firstDirty
	}
	return secondDirty
}

func usedBits[F format]() pte { return accessed[F]() | dirty[F]() }

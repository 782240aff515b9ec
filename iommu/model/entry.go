package model

// Bits of paging entries (sections 9.7 and 9.8).
const (
	secondRead     = 1 << 0
	secondWrite    = 1 << 1
	secondAccessed = 1 << 8
	secondDirty    = 1 << 9
	secondSnoop    = 1 << 11
	secondIOWrite  = 1 << 62 // of a permission that only later units have

	firstPresent    = 1 << 0
	firstWrite      = 1 << 1
	firstUser       = 1 << 2
	firstAccessed   = 1 << 5
	firstDirty      = 1 << 6
	firstAttributes = 1 << 12 // PAT of a superpage

	entrySuper   = 1 << 7 // PS
	entryAddress = 0x000f_ffff_ffff_f000
)

// An entry is a paging entry decoded.
type entry struct {
	addr  uint64 // of the next table or of the page
	perm  permission
	leaf  bool
	dirty bool
	wrong defect
}

// decode reads a paging entry of a level (1 is the lowest).
func (u *Unit) decode(b *binding, v uint64, level int) entry {
	e := entry{leaf: level == 1 || v&entrySuper != 0}
	if b.stage == firstStage {
		if v&firstPresent == 0 {
			return entry{wrong: notPresent}
		}
		e.perm = mayRead
		if v&firstWrite != 0 {
			e.perm |= mayWrite
		}
		if v&firstUser != 0 {
			e.perm |= mayUser
		}
		e.dirty = v&firstDirty != 0
	} else {
		e.perm = permission(v & (secondRead | secondWrite))
		if e.perm == 0 {
			return entry{wrong: notPresent}
		}
		e.perm |= mayUser
		e.dirty = v&secondDirty != 0
	}
	e.addr = v & entryAddress
	if e.leaf {
		e.addr &^= 1<<shiftOf(level) - 1
	}
	if v&u.reserved(b, e.leaf, level) != 0 {
		return entry{wrong: reservedSet}
	}
	return e
}

// reserved are the bits that must be 0 in a present entry. A unit without a size
// of superpage reserves the bit that asks for it; first stages always have 2 MiB.
func (u *Unit) reserved(b *binding, isLeaf bool, level int) uint64 {
	mask := uint64(entryAddress) &^ (1<<u.cfg.HostWidth - 1)
	super := level > 1 && isLeaf
	if super {
		mask |= (1<<shiftOf(level) - 1) & entryAddress
	}
	if level > 3 || super && (level == 2 && u.cfg.No2M && b.stage == secondStage || level == 3 && u.cfg.No1G) {
		mask |= entrySuper
	}
	if b.stage == firstStage {
		if super {
			mask &^= firstAttributes
		}
		return mask
	}
	if !isLeaf || !u.cfg.SnoopControl {
		mask |= secondSnoop
	}
	return mask | secondIOWrite
}

// attempts bounds how often an entry that keeps changing is read again.
const attempts = 1000

// load reads and decodes an entry, combines it with what the way to it permits,
// and sets its accessed and dirty bits where that is wanted (section 3.6.2 and
// 3.7.2).
func (u *Unit) load(b *binding, r *request, addr uint64, level int, way permission) (entry, reason) {
	for range attempts {
		v, ok := u.mem.entry(addr, b.snoop)
		if !ok {
			return entry{}, b.reasons(r.write).access
		}
		e := u.decode(b, v, level)
		e.perm &= way
		if e.wrong != sound || !b.marks {
			return e, 0
		}
		if e.leaf && b.allows(e.perm, r.write) != 0 {
			return e, 0 // the request faults: nothing was accessed
		}
		set := b.accessed()
		if e.leaf && r.write {
			set |= b.dirty()
		}
		if v&set == set {
			return e, 0
		}
		if !b.snoop {
			return entry{}, b.cannotMark()
		}
		if u.mem.mark(addr, v, set) {
			e.dirty = e.dirty || set&b.dirty() != 0
			return e, 0
		}
	}
	if b.stage == firstStage {
		return entry{}, firstMarkFailed
	}
	return entry{}, secondMarkFailed
}

func (b *binding) accessed() uint64 {
	if b.stage == firstStage {
		return firstAccessed
	}
	return secondAccessed
}

func (b *binding) dirty() uint64 {
	if b.stage == firstStage {
		return firstDirty
	}
	return secondDirty
}

// cannotMark is the reason when bits need to be set by an access that does not
// snoop.
func (b *binding) cannotMark() reason {
	if b.stage == firstStage {
		return firstMark
	}
	return secondMark
}

package model

// scalableContext reads the scalable-mode root and context entries of a requester
// (sections 9.2 and 9.4): a root entry has two halves, for device numbers below
// 16 and from there on.
func (u *Unit) scalableContext(source uint16) *context {
	if !u.root.set {
		return wrongContext(scalableRootAccess, false)
	}
	half := u.root.addr + uint64(source>>7)*8
	root, ok := u.mem.entry(half, u.cfg.Coherent)
	switch {
	case !ok:
		return wrongContext(scalableRootAccess, false)
	case root&present == 0:
		return wrongContext(scalableRootAbsent, false)
	case root&(0xffe|u.addressReserved()) != 0:
		return wrongContext(scalableRootReserved, false)
	}
	addr := root&nextTable + uint64(source&0x7f)*32
	lo, hi, ok := u.pair(addr)
	silent := lo&quiet != 0
	if !ok {
		return wrongContext(scalableContextAccess, false)
	}
	if lo&present == 0 {
		return wrongContext(scalableContextAbsent, silent)
	}
	third, fourth, _ := u.pair(addr + 16)
	// PRE, bit 4, without page requests; RID_PRIV, hi bit 20, without supervisor
	// requests.
	reserved := 0x1f0 | u.addressReserved() | set(bit{2, !u.cfg.DeviceTLB}, bit{3, u.cfg.NoPASID})
	if lo&reserved != 0 || hi>>20 != 0 || third != 0 || fourth != 0 {
		return wrongContext(scalableContextReserved, silent)
	}
	entries, ridPASID := uint64(1)<<(lo>>9&7+7), uint32(hi&0xfffff)
	if uint64(ridPASID)>>6 >= entries {
		return wrongContext(scalableContextInvalid, silent)
	}
	return &context{
		binding:  binding{quiet: silent},
		scalable: true, devices: lo>>2&1 != 0, pasids: lo>>3&1 != 0,
		directory: lo & nextTable, entries: entries, ridPASID: ridPASID,
	}
}

// pasidBinding finds the PASID entry for a request: in the PASID cache, or
// through the directory.
func (u *Unit) pasidBinding(c *context, r *request) *binding {
	pasid := c.ridPASID
	if r.hasPASID {
		pasid = r.pasid
		if why := u.refused(c, pasid); why != 0 {
			return &binding{wrong: why, quiet: c.quiet}
		}
	}
	key := requesterKey{r.source, pasid}
	if b := u.caches.pasids[key]; b != nil {
		return b
	}
	b := u.readPASID(c, pasid)
	if b.wrong == 0 || u.cfg.CachingMode && b.wrong.cached() {
		u.caches.pasids[key] = b
		if b.wrong == 0 {
			u.checkDomain(b)
		}
	}
	return b
}

// refused says why a request may not have a PASID, or not this one.
func (u *Unit) refused(c *context, pasid uint32) reason {
	switch {
	case !c.pasids:
		return noPASIDs
	case pasid>>u.cfg.PASIDBits != 0:
		return pasidTooLarge
	case uint64(pasid)>>6 >= c.entries:
		return pasidBeyond
	case pasid == c.ridPASID:
		return ridPASID
	}
	return 0
}

// readPASID reads the PASID directory entry and the PASID entry (sections 9.5 and
// 9.6).
func (u *Unit) readPASID(c *context, pasid uint32) *binding {
	dir, ok := u.mem.entry(c.directory+uint64(pasid>>6)*8, u.cfg.Coherent)
	silent := c.quiet || dir&quiet != 0
	switch {
	case !ok:
		return &binding{wrong: directoryAccess, quiet: c.quiet}
	case dir&present == 0:
		return &binding{wrong: directoryAbsent, quiet: silent}
	case dir&(0xffc|u.addressReserved()) != 0:
		return &binding{wrong: directoryReserved, quiet: silent}
	}
	var e [8]uint64
	addr := dir&nextTable + uint64(pasid&63)*64
	for i := range e {
		if e[i], ok = u.mem.entry(addr+uint64(i)*8, u.cfg.Coherent); !ok {
			return &binding{wrong: pasidAccess, quiet: silent}
		}
	}
	silent = silent || e[0]&quiet != 0
	if e[0]&present == 0 {
		return &binding{wrong: pasidAbsent, quiet: silent}
	}
	b := &binding{quiet: silent, pasid: pasid}
	b.wrong = u.bindPASID(b, &e)
	if b.wrong != 0 {
		b.domain = 0 // the tag of wrong entries (section 6.2.3)
	}
	return b
}

// Translation types of a PASID entry (PGTT, section 9.6).
const (
	pasidFirst       = 1
	pasidSecond      = 2
	pasidPassThrough = 4
)

// bindPASID fills b from a present PASID entry, or says why not. What depends on
// capabilities that this unit never has is reserved.
func (u *Unit) bindPASID(b *binding, e *[8]uint64) reason {
	reserved := [3]uint64{
		0xc20 | u.addressReserved() | set(bit{9, !u.cfg.AccessedDirty || u.cfg.NoSecondStage}),
		// Memory types (bits 25 up) without ECAP.MTS.
		0xffff_ffff_fe7f_0000 | set(bit{23, !u.cfg.Coherent}, bit{24, !u.cfg.SnoopControl}),
		// SRE, ERE, EAFE without supervisor and execute requests.
		0xf83 | u.addressReserved(),
	}
	if u.cfg.NoSecondStage {
		reserved[0] |= nextTable | 0x1c
	}
	if u.cfg.NoFirstStage {
		reserved[2] |= nextTable | 0x1c
	}
	for i, v := range e {
		if i >= len(reserved) && v != 0 || i < len(reserved) && v&reserved[i] != 0 {
			return pasidReserved
		}
	}
	b.domain = uint16(e[1])
	if uint64(b.domain)>>u.cfg.DomainBits != 0 {
		return pasidReserved
	}
	b.snoop = e[1]>>23&1 != 0
	tag := noPASID
	switch e[0] >> 6 & 7 {
	case pasidFirst:
		b.stage, b.levels, b.root, b.marks = firstStage, 4+int(e[2]>>2&3), e[2]&nextTable, true
		if u.cfg.NoFirstStage || b.levels > 5 || b.levels == 5 && !u.cfg.FirstStage57 {
			return pasidInvalid
		}
		tag = b.pasid
	case pasidSecond:
		b.stage, b.levels, b.root, b.marks = secondStage, int(e[0]>>2&7)+2, e[0]&nextTable, e[0]>>9&1 != 0
		if u.cfg.NoSecondStage || !u.cfg.walks(b.levels) {
			return pasidInvalid
		}
	case pasidPassThrough:
		b.stage = passThrough
		if u.cfg.NoPassThrough {
			return pasidInvalid
		}
	default:
		return pasidInvalid
	}
	b.space = u.caches.space(b.domain, tag)
	return 0
}

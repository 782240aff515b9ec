package model

import "math/bits"

// Bits of GCMD_REG and GSTS_REG (sections 11.4.4.1 and 11.4.4.2).
const (
	globalTE    = 1 << 31
	globalSRTP  = 1 << 30
	globalSFL   = 1 << 29
	globalEAFL  = 1 << 28
	globalWBF   = 1 << 27
	globalQIE   = 1 << 26
	globalIRE   = 1 << 25
	globalSIRTP = 1 << 24
	globalCFI   = 1 << 23

	globalState = globalTE | globalEAFL | globalQIE | globalIRE | globalCFI // bits that last
	globalOnce  = globalSRTP | globalSFL | globalWBF | globalSIRTP
)

// Modes of RTADDR_REG, bits 11:10 (section 11.4.5).
const (
	modeLegacy   = 0
	modeScalable = 1
)

// command is a write to GCMD_REG: one bit at a time changes (section 11.4.4.1).
func (u *Unit) command(v uint32) {
	r := &u.regs
	changed := (v^r.gsts)&globalState | v&globalOnce
	if bits.OnesCount32(changed) > 1 {
		u.violation("GCMD %#x changes several bits at once (GSTS is %#x): change one and wait for GSTS (section 11.4.4.1)", v, r.gsts)
	}
	if v&^(globalState|globalOnce) != 0 {
		u.violation("GCMD %#x has reserved bits set", v)
	}
	if changed&(globalSFL|globalEAFL) != 0 {
		u.violation("GCMD %#x uses advanced fault logging, which this unit has not (CAP.AFL)", v)
		changed &^= globalSFL | globalEAFL
	}
	if changed&globalWBF != 0 {
		u.mem.drain(u.cfg.Coherent)
	}
	if changed&globalSRTP != 0 {
		u.setRoot()
	}
	if changed&globalSIRTP != 0 {
		r.gsts |= globalSIRTP
	}
	if changed&globalQIE != 0 {
		u.enableQueue(v&globalQIE != 0)
	}
	if changed&globalTE != 0 {
		u.enableTranslation(v&globalTE != 0)
	}
	r.gsts ^= changed & (globalIRE | globalCFI)
}

// setRoot latches the root table pointer. Caches stay, unless CAP.ESRTPS (section
// 6.6).
func (u *Unit) setRoot() {
	v := u.regs.rtaddr
	mode := v >> 10 & 3
	if v&0x3ff != 0 || v>>u.cfg.HostWidth != 0 {
		u.violation("RTADDR %#x has reserved bits set", v)
	}
	if u.on && mode != u.root.mode && !u.cfg.EnhancedRootPointer {
		u.violation("the translation table mode changes from %d to %d while translation is on (section 6.6)", u.root.mode, mode)
	}
	if mode == modeScalable && u.regs.gsts&globalQIE != 0 && u.queue.address&queueWide == 0 {
		u.violation("scalable mode with 128-bit descriptors: IQA.DW must be 1 (section 11.4.9.3)")
	}
	u.root = rootInfo{set: true, addr: v & nextTable, mode: mode}
	u.regs.gsts |= globalSRTP
	if u.cfg.EnhancedRootPointer {
		u.caches.init()
	}
}

func (u *Unit) enableTranslation(on bool) {
	if on && !u.root.set {
		u.violation("translation is enabled before a root table pointer was set (section 11.4.4.1)")
	}
	u.on = on
	if on {
		u.regs.gsts |= globalTE
	} else {
		u.regs.gsts &^= globalTE
		u.faults.next = 0 // section 7.2.1
	}
}

// protectedBlock is the alignment of protected memory regions in bytes.
const protectedBlock = 2 << 20

// protect is a write to PMEN_REG (section 11.4.8.1).
func (u *Unit) protect(v uint32) {
	switch {
	case !u.cfg.ProtectedMemory:
		u.violation("PMEN is written, but this unit has no protected memory regions")
	case v>>31 != 0:
		u.regs.pmen = 1<<31 | 1
	default:
		u.regs.pmen = 0
	}
}

// protected says whether an untranslated access to n bytes at a bus address
// touches a protected region.
func (u *Unit) protected(addr uint64, n int) bool {
	r := &u.regs
	if r.pmen == 0 {
		return false
	}
	last := addr + uint64(n) - 1
	within := func(base, end uint64) bool {
		end |= protectedBlock - 1
		return base <= end && addr <= end && last >= base
	}
	return within(uint64(r.lowBase), uint64(r.lowEnd)) || within(r.highBase, r.highEnd)
}

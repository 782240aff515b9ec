package model

// Granularities of context and IOTLB invalidations, in descriptors and registers
// (sections 6.5.1 and 6.5.2).
const (
	everything = 1
	ofDomain   = 2
	selective  = 3 // contexts: of devices; IOTLB: of pages
)

// perform does what the queue has put off. It says false if a device never
// answered (section 6.5.2.11, ITE): then what is behind that is not done, and the
// wait not answered.
func (u *Unit) perform() bool {
	done := true
	for i := range u.queue.waiting {
		if done = u.invalidate(&u.queue.waiting[i]); !done {
			break
		}
	}
	u.queue.waiting = u.queue.waiting[:0]
	if !done {
		u.queueFault(faultTimeout)
	}
	return done
}

// invalidate performs a valid descriptor.
func (u *Unit) invalidate(d *descriptor) bool {
	domain := uint16(d[0]>>16) & u.domains()
	pasid := uint32(d[0] >> 32 & 0xfffff)
	first, last := block(d[1]&nextTable, int(d[1]&0x3f))
	leavesOnly := d[1]>>6&1 != 0
	u.mem.drain(u.cfg.Coherent) // section 6.8
	switch d.kind() {
	case kindContext:
		u.dropContexts(d.granularity(), domain, uint16(d[0]>>32), d[0]>>48&3)
	case kindIOTLB:
		u.dropTranslations(d.granularity(), domain, first, last, leavesOnly)
	case kindPASIDIOTLB:
		u.dropPASIDTranslations(d.granularity(), spaceKey{domain, pasid}, first, last, leavesOnly)
	case kindPASID:
		u.dropPASIDs(d.granularity(), domain, pasid)
	case kindDevice, kindPASIDDevice:
		return u.dropDevice(d)
	}
	return true
}

// domains are the bits of a domain id; others in a descriptor are ignored.
func (u *Unit) domains() uint16 { return uint16(1<<u.cfg.DomainBits - 1) }

// dropContexts drops context-cache entries (section 6.5.2.1). In scalable mode
// these have no domain id: invalidating a domain's drops all, and a device's is by
// the device only.
func (u *Unit) dropContexts(granularity uint64, domain, source uint16, mask uint64) {
	scalable := u.root.mode == modeScalable
	if granularity == everything {
		clear(u.caches.contexts)
		return
	}
	// The function mask leaves out function bits: none, 2, 2:1, 2:0.
	functions := [...]uint16{0, 4, 6, 7}[mask]
	for s, c := range u.caches.contexts {
		inDomain := c.domain == domain || scalable
		if inDomain && (granularity == ofDomain || s&^functions == source&^functions) {
			delete(u.caches.contexts, s)
		}
	}
}

// dropTranslations drops IOTLB and paging-structure cache entries (section
// 6.5.2.3, table 23). Pages are those of second stages and pass-through; of first
// stages in the domain all entries go.
func (u *Unit) dropTranslations(granularity uint64, domain uint16, first, last uint64, leavesOnly bool) {
	const all = ^uint64(0)
	c := &u.caches
	switch granularity {
	case everything:
		c.dropLeaves(0, all, func(*binding) bool { return true })
		c.dropTables(0, all, func(spaceKey) bool { return true })
	case ofDomain:
		c.dropLeaves(0, all, func(b *binding) bool { return b.domain == domain })
		c.dropTables(0, all, func(k spaceKey) bool { return k.domain == domain })
	case selective:
		bits := uint64(1)<<u.cfg.width() - 1
		first, last = first&bits, last&bits
		if c.first { // a look at all entries, of which there may be many
			c.dropLeaves(0, all, func(b *binding) bool { return b.domain == domain && b.stage == firstStage })
		}
		c.dropLeaves(first, last, func(b *binding) bool { return b.domain == domain })
		c.dropTables(0, all, func(k spaceKey) bool { return k.domain == domain && k.pasid != noPASID })
		if !leavesOnly {
			c.dropTables(first, last, func(k spaceKey) bool { return k == spaceKey{domain, noPASID} })
		}
	}
}

// dropPASIDTranslations drops IOTLB and first-stage paging-structure entries of a
// PASID in a domain (section 6.5.2.4, table 24): all, or pages of first stages.
func (u *Unit) dropPASIDTranslations(granularity uint64, tag spaceKey, first, last uint64, leavesOnly bool) {
	pages := granularity == selective
	if !pages {
		first, last, leavesOnly = 0, ^uint64(0), false
	}
	u.caches.dropLeaves(first, last, func(b *binding) bool {
		return b.domain == tag.domain && b.pasid == tag.pasid && (!pages || b.stage == firstStage)
	})
	if !leavesOnly {
		u.caches.dropTables(first, last, func(k spaceKey) bool { return k == tag })
	}
}

// dropPASIDs drops PASID-cache entries (section 6.5.2.2): of a domain, of one
// PASID in it, or all. Those cached though they are wrong have domain id 0.
func (u *Unit) dropPASIDs(granularity uint64, domain uint16, pasid uint32) {
	const ofDomain, ofPASID, global = 0, 1, 3
	for key, b := range u.caches.pasids {
		if granularity == global || b.domain == domain && (granularity == ofDomain || granularity == ofPASID && key.pasid == pasid) {
			delete(u.caches.pasids, key)
		}
	}
}

// commandBusy is ICC of CCMD_REG and IVT of IOTLB_REG: set by software to start,
// cleared by the unit at the end.
const commandBusy = 1 << 63

// byRegisters says whether invalidation through registers may be used now.
func (u *Unit) byRegisters(name string) bool {
	switch {
	case u.cfg.NoRegisterInvalidation:
		u.violation("%s is written, which this unit has not (section 6.5)", name)
	case u.queue.on:
		u.violation("%s is written while the queue is on (section 6.5.1)", name)
	default:
		return true
	}
	return false
}

// contextCommand is CCMD_REG (section 11.4.6.1). What was done, its bits 60:59,
// is what was asked for; nothing if that is reserved.
func (u *Unit) contextCommand() {
	v := &u.regs.ccmd
	if *v&commandBusy == 0 {
		return
	}
	asked := *v >> 61 & 3
	*v &^= commandBusy | 3<<59
	if !u.byRegisters("CCMD") || asked == 0 {
		return
	}
	u.mem.drain(u.cfg.Coherent)
	u.dropContexts(asked, uint16(*v)&u.domains(), uint16(*v>>16), *v>>32&3)
	*v |= asked << 59
}

// iotlbCommand is IOTLB_REG, with the pages in IVA_REG (section 11.4.6.3). Its
// bits 58:57 say what was done.
func (u *Unit) iotlbCommand() {
	v, iva := &u.regs.iotlb, u.regs.iva
	if *v&commandBusy == 0 {
		return
	}
	asked := *v >> 60 & 3
	*v &^= commandBusy | 3<<57
	if !u.byRegisters("IOTLB") || asked == 0 {
		return
	}
	if asked == selective && int(iva&0x3f) > u.cfg.MaxAddressMask {
		u.violation("IVA %#x has an address mask above %d (CAP.MAMV)", iva, u.cfg.MaxAddressMask)
		return
	}
	u.mem.drain(u.cfg.Coherent)
	first, last := block(iva&nextTable, int(iva&0x3f))
	u.dropTranslations(asked, uint16(*v>>32), first, last, iva>>6&1 != 0)
	*v |= asked << 57
}

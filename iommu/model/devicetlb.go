package model

import "math/bits"

// A device with a TLB of its own (ATS, chapter 4) asks the unit for translations,
// keeps them until it is told to drop them, and goes to memory with the bus
// address itself.
type deviceTLB struct {
	mute  bool
	pages map[devicePage]leaf // nil while it is off
}

type devicePage struct {
	pasid uint32 // noPASID for requests without
	page  uint64
}

// Types of addresses in requests, as fault records have them (AT).
const (
	untranslated = iota
	asking       // a request for a translation
	translated
)

// SetATS switches the device's TLB on or off; it is emptied. The context entry
// must allow its requests, and the unit must have Config.DeviceTLB.
func (d *Device) SetATS(on bool) {
	d.u.mu.Lock()
	defer d.u.mu.Unlock()
	d.tlb.pages = nil
	if on {
		d.tlb.pages = make(map[devicePage]leaf)
	}
	d.ats.Store(on)
}

// SetMute makes the device stop to answer invalidations of its TLB, or answer
// them again. The unit then reports a time-out (ITE), as it does for a device
// whose TLB is off.
func (d *Device) SetMute(mute bool) {
	d.u.mu.Lock()
	defer d.u.mu.Unlock()
	d.tlb.mute = mute
}

// access is one request of the device, through its TLB if that is on.
func (d *Device) access(r *request, buf []byte) (reason, error) {
	if !d.ats.Load() || interruptRange(r.iova) {
		return d.u.access(r, buf)
	}
	d.u.mu.Lock()
	defer d.u.unlock()
	if d.tlb.pages == nil { // switched off just now
		return d.u.alone(r, buf)
	}
	key := devicePage{r.key().pasid, r.iova / pageSize}
	l, ok := d.tlb.pages[key]
	if !ok || r.write && l.perm&mayWrite == 0 || !r.write && l.perm&mayRead == 0 {
		var why reason
		if l, why = d.u.ask(*r); why != 0 {
			return why, ErrBlocked
		}
		d.tlb.pages[key] = l
	}
	direct := *r
	direct.kind = translated
	if why := d.u.admit(&direct); why != 0 {
		return why, ErrBlocked
	}
	return 0, d.u.move(l.out+r.iova%pageSize, r, buf)
}

// ask answers a request for a translation of a page. That there is none, or no
// permission, is an answer and no fault (section 7.1.2).
func (u *Unit) ask(r request) (leaf, reason) {
	if !u.on {
		return leaf{out: r.iova &^ (pageSize - 1), perm: mayAll}, 0
	}
	r.kind = asking
	if why := u.admit(&r); why != 0 {
		return leaf{}, why
	}
	addr, b, why := u.lookup(&r)
	if why != 0 {
		if !why.answered() {
			u.blocked(b, &r, why)
		}
		return leaf{}, why
	}
	l, _, _ := u.caches.requester(&r).find(r.iova)
	l.out = addr &^ (pageSize - 1)
	if !l.dirty {
		l.perm &^= mayWrite // the device asks again, for the dirty bit
	}
	return l, 0
}

// answered says whether a request for a translation gets an answer without
// permissions instead of a fault (table 30).
func (r reason) answered() bool {
	switch r {
	case beyondWidth, noWrite, noRead, directoryAbsent, pasidAbsent,
		firstAccess, firstAbsent, firstReserved, firstRoot, firstMark, secondAbsent,
		notCanonical, notUser, beyondUnit, beyondStage, scalableNoWrite, scalableNoRead:
		return true
	}
	return false
}

// admit checks whether the context entry allows requests of a device TLB.
func (u *Unit) admit(r *request) reason {
	if !u.on {
		return 0
	}
	c := u.context(r.source)
	why := c.wrong
	if why == 0 && !c.devices {
		why = typeBlocked
		if c.scalable {
			why = noDeviceTLB
		}
	}
	if why != 0 {
		u.blocked(&c.binding, r, why)
	}
	return why
}

// dropDevice performs an invalidation of a device's TLB (sections 6.5.2.5 and
// 6.5.2.6) and says whether the device answered.
func (u *Unit) dropDevice(d *descriptor) bool {
	source, pasid, everyPASID, sized := uint16(d[0]>>32), noPASID, false, d[1]&1 != 0
	if d.kind() == kindPASIDDevice {
		source, pasid = uint16(d[0]>>16), uint32(d[0]>>32&0xfffff)
		everyPASID, sized = d[1]&1 != 0, d[1]>>11&1 != 0
	}
	device := u.devices[source]
	if device == nil || device.tlb.pages == nil || device.tlb.mute {
		u.queue.silent = source
		return false
	}
	// With S, the lowest 0 among the address bits says how many are left out.
	mask := 0
	if sized {
		mask = bits.TrailingZeros64(^(d[1] >> 12)) + 1
	}
	first, last := block(d[1]&nextTable, mask)
	for key := range device.tlb.pages {
		ours := key.pasid == pasid || everyPASID && key.pasid != noPASID
		if addr := key.page * pageSize; ours && addr >= first && addr <= last {
			delete(device.tlb.pages, key)
		}
	}
	return true
}

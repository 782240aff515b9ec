package model

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
)

// A Device issues DMA through the unit.
type Device struct {
	u      *Unit
	source uint16
	ats    atomic.Bool // the TLB is on, for who does not hold the unit's mu
	tlb    deviceTLB
}

var (
	// ErrBlocked reports DMA that the unit did not let through. DMAError.Reason
	// says why.
	ErrBlocked = errors.New("blocked by the unit")
	// ErrNoMemory reports DMA to a bus address where no memory is.
	ErrNoMemory = errors.New("no memory at the bus address")
)

// A DMAError is DMA that failed, at its first page that did.
type DMAError struct {
	Source   uint16
	IOVA     uint64
	Write    bool
	HasPASID bool
	PASID    uint32
	// Reason is the fault reason, also of faults that are not recorded. It is 0
	// for accesses that fail without one: other than 4-byte writes to the interrupt
	// range, and accesses to protected memory.
	Reason uint8
	Err    error // ErrBlocked or ErrNoMemory
}

func (e *DMAError) Error() string {
	what, pasid := "read", ""
	if e.Write {
		what = "write"
	}
	if e.HasPASID {
		pasid = fmt.Sprintf(" with PASID %#x", e.PASID)
	}
	return fmt.Sprintf("model: %s of iova %#x by device %#04x%s: %v (reason %#02x)", what, e.IOVA, e.Source, pasid, e.Err, e.Reason)
}

func (e *DMAError) Unwrap() error { return e.Err }

// Device is the device with a requester id.
func (u *Unit) Device(source uint16) *Device {
	u.mu.Lock()
	defer u.mu.Unlock()
	d := u.devices[source]
	if d == nil {
		d = &Device{u: u, source: source}
		u.devices[source] = d
	}
	return d
}

// A request is one access within a page.
type request struct {
	iova     uint64
	pasid    uint32
	source   uint16
	hasPASID bool
	write    bool
	kind     uint8 // of address
}

// key is what the IOTLB is looked up by.
func (r *request) key() requesterKey {
	if r.hasPASID {
		return requesterKey{r.source, r.pasid}
	}
	return requesterKey{r.source, noPASID}
}

// Read reads len(dst) bytes at an IOVA. Where a page is blocked, and behind it,
// the device gets zeros: nothing of memory.
func (d *Device) Read(iova uint64, dst []byte) error {
	return d.dma(request{iova: iova, source: d.source}, dst)
}

// Write writes src to an IOVA. Pages before a blocked one are written.
func (d *Device) Write(iova uint64, src []byte) error {
	return d.dma(request{iova: iova, source: d.source, write: true}, src)
}

// ReadPASID is Read with a PASID, of 20 bits.
func (d *Device) ReadPASID(pasid uint32, iova uint64, dst []byte) error {
	return d.dma(request{iova: iova, source: d.source, hasPASID: true, pasid: pasid & 0xfffff}, dst)
}

// WritePASID is Write with a PASID, of 20 bits.
func (d *Device) WritePASID(pasid uint32, iova uint64, src []byte) error {
	return d.dma(request{iova: iova, source: d.source, hasPASID: true, pasid: pasid & 0xfffff, write: true}, src)
}

// dma splits at page boundaries, as requests on the bus do.
func (d *Device) dma(r request, buf []byte) error {
	for len(buf) > 0 {
		n := min(len(buf), int(pageSize-r.iova%pageSize))
		if why, err := d.access(&r, buf[:n]); err != nil {
			if !r.write {
				clear(buf)
			}
			return &DMAError{r.source, r.iova, r.write, r.hasPASID, r.pasid, uint8(why), err}
		}
		buf, r.iova = buf[n:], r.iova+uint64(n)
	}
	return nil
}

// access is one request: from the IOTLB at once with other DMA, otherwise alone.
func (u *Unit) access(r *request, buf []byte) (reason, error) {
	u.mu.RLock()
	if addr, ok := u.cached(r); ok {
		err := u.move(addr, r, buf)
		u.mu.RUnlock()
		return 0, err
	}
	u.mu.RUnlock()
	u.mu.Lock()
	defer u.unlock()
	return u.alone(r, buf)
}

// alone is access for who holds mu.
func (u *Unit) alone(r *request, buf []byte) (reason, error) {
	addr, why, err := u.resolve(r, buf)
	if err != nil || addr == nowhere {
		return why, err
	}
	return 0, u.move(addr, r, buf)
}

func (u *Unit) move(addr uint64, r *request, buf []byte) error {
	ok := false
	if r.write {
		ok = u.mem.write(addr, buf)
	} else {
		ok = u.mem.read(addr, buf)
	}
	if !ok {
		return ErrNoMemory
	}
	return nil
}

// Requests without PASID to these addresses are interrupts (section 3.15).
func interruptRange(addr uint64) bool { return addr>>20 == 0xfee }

// cached translates a request that the IOTLB lets through. All others are left to
// resolve.
func (u *Unit) cached(r *request) (uint64, bool) {
	if !u.on || interruptRange(r.iova) {
		return 0, false
	}
	l, shift, ok := u.hit(r)
	if !ok {
		return 0, false
	}
	addr, why := u.output(r, l, shift)
	return addr, why == 0
}

// nowhere is the bus address of an interrupt.
const nowhere = ^uint64(0)

// resolve translates a request by all means and records its fault.
func (u *Unit) resolve(r *request, buf []byte) (uint64, reason, error) {
	if interruptRange(r.iova) && !r.hasPASID {
		if !r.write || len(buf) != 4 || r.iova%4 != 0 {
			return 0, 0, ErrBlocked
		}
		u.send(r.iova, binary.LittleEndian.Uint32(buf))
		return nowhere, 0, nil
	}
	if !u.on {
		if u.protected(r.iova, len(buf)) {
			return 0, 0, ErrBlocked
		}
		return r.iova, 0, nil
	}
	addr, b, why := u.lookup(r)
	if why == 0 {
		return addr, 0, nil
	}
	u.blocked(b, r, why)
	return 0, why, ErrBlocked
}

// lookup translates a request: from the IOTLB, or through the entries for it. It
// also says which entry applied.
func (u *Unit) lookup(r *request) (uint64, *binding, reason) {
	if l, shift, ok := u.hit(r); ok {
		addr, why := u.output(r, l, shift)
		return addr, l.by, why
	}
	b := u.binding(r)
	if b.wrong != 0 {
		return 0, b, b.wrong
	}
	addr, why := u.translate(b, r)
	return addr, b, why
}

// blocked records a fault, unless the entries on the way say not to.
func (u *Unit) blocked(b *binding, r *request, why reason) {
	if !b.quiet || !why.qualified() {
		u.record(r, why)
	}
}

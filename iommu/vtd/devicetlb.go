package vtd

import "fmt"

// A DeviceTLB describes the translation cache that a device has itself (ATS).
type DeviceTLB struct {
	// QueueDepth is how many invalidations the device takes at once: the field
	// Invalidate Queue Depth of its ATS capability, 0 meaning 32.
	QueueDepth uint8
	// PhysicalFunction is the requester id of the physical function of a
	// virtual one; of others it is their own.
	PhysicalFunction uint16
}

type deviceTLB struct {
	depth    uint8
	physical uint16
}

// SetDeviceTLB says that the device has a TLB of its own and is allowed to use
// it: its next Attach lets it ask for translations, and what is invalidated in
// the unit is then invalidated there, too. A nil t takes that back. The device
// must not be attached (ErrAttached), and its driver enables ATS after the
// attach and disables it before the detach, and before Disable, with no DMA under
// way (section 4.5). A device that does not answer within its time makes calls
// fail with a QueueError that names it; see Detach.
func (u *Unit) SetDeviceTLB(source uint16, t *DeviceTLB) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if err := u.setDeviceTLB(source, t); err != nil {
		return &OpError{Op: "set device TLB", Target: device(source), Err: err}
	}
	return nil
}

func (u *Unit) setDeviceTLB(source uint16, t *DeviceTLB) error {
	switch {
	case u.closed:
		return ErrClosed
	case !u.caps.DeviceTLB || u.queue == nil:
		return fmt.Errorf("%w: no device TLBs (ECAP %#x), or no queue to invalidate them with", ErrUnsupported, u.caps.Ecap)
	case u.hasContext(source):
		return ErrAttached
	case t == nil:
		delete(u.deviceTLBs, source)
		return nil
	case t.QueueDepth > 31:
		return fmt.Errorf("%w: queue depth %d is not in 0 to 31", ErrRange, t.QueueDepth)
	}
	d := deviceTLB{depth: t.QueueDepth}
	if u.caps.PhysicalFunctions {
		d.physical = t.PhysicalFunction
	}
	u.deviceTLBs[source] = d
	return nil
}

// planDevices adds what devices' TLBs must forget when the unit forgets a range
// of a domain, 2^mask pages. It follows a fence, because a device may ask the
// unit again at once (section 6.5.3.3).
func (u *Unit) planDevices(p *plan, domainID uint16, address uint64, mask int) {
	if len(u.deviceTLBs) == 0 {
		return
	}
	for at, id := range u.entries {
		if id == domainID {
			u.planDevice(p, at, address, mask)
		}
	}
	for at, id := range u.silent {
		if id == domainID && u.hasContext(at.source) {
			u.planDevice(p, at, address, mask)
		}
	}
}

// hasContext says whether the device's context entry is present: without one the
// unit blocks all that the device does, also by what its TLB has.
func (u *Unit) hasContext(source uint16) bool {
	return u.spaces[source] != nil || u.opts.Mode == Legacy && u.attached(source, noPASID)
}

// forgetDevices makes devices' TLBs forget what was detached there while they did
// not answer.
func (u *Unit) forgetDevices(which func(place) bool) error {
	p, told := u.newPlan(), []place(nil)
	for at := range u.silent {
		if _, ok := u.deviceTLBs[at.source]; ok && which(at) {
			u.planDevice(&p, at, 0, allOfDevice)
			told = append(told, at)
		}
	}
	if err := u.run(p); err != nil {
		return fmt.Errorf("drop what an earlier failure left in the device's TLB: %w", err)
	}
	for _, at := range told {
		delete(u.silent, at)
	}
	if len(told) > 0 {
		u.coverAll()
	}
	return nil
}

// allOfDevice is the mask that covers everything in a device's TLB.
const allOfDevice = 52

// planDevice adds it for one device and PASID, if it has a TLB.
func (u *Unit) planDevice(p *plan, at place, address uint64, mask int) {
	if r, ok := u.ofDevice(at, address, mask); ok {
		p.add(forgetDevice, r)
	}
}

// ofDevice is what a device and PASID must be told of 2^mask pages, if it has a TLB.
func (u *Unit) ofDevice(at place, address uint64, mask int) (r request, ok bool) {
	d, ok := u.deviceTLBs[at.source]
	r = request{kind: ofDeviceTLB, source: at.source, depth: d.depth, physical: d.physical, address: address, mask: mask}
	if at.pasid != noPASID {
		r.kind, r.pasid = ofPASIDDeviceTLB, at.pasid
	}
	return r, ok
}

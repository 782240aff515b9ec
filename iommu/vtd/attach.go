package vtd

import (
	"context"
	"fmt"

	"gommu/pagetable"
)

// A Table is a page table, such as a *pagetable.Table: of the second stage
// (section 9.8), which units walk in both modes, or of the first (section 9.7),
// which they walk in scalable mode.
type Table interface {
	Root() pagetable.Frame // its top page
	AddressWidth() int     // bits of IOVA: 39, 48 or 57
	Stage() pagetable.Stage
}

// PassThrough attached in place of a table lets a device's DMA pass
// untranslated: it reaches all memory. The unit must be able to
// (Usable.PassThrough).
var PassThrough Table = passThrough{}

type passThrough struct{}

func (passThrough) Root() pagetable.Frame  { return pagetable.Frame{} }
func (passThrough) AddressWidth() int      { return 0 }
func (passThrough) Stage() pagetable.Stage { return pagetable.SecondStage }

// A translation is what an entry makes of a device's DMA.
type translation struct {
	kind translationKind
	root uint64
	code uint64 // the address width as entries hold it: levels-2
}

// translationKind is the field PGTT of a PASID table entry (section 9.6).
type translationKind uint64

const (
	throughFirst  translationKind = 1
	throughSecond translationKind = 2
	untranslated  translationKind = 4
)

// Attach gives the device with the given requester id the table t: its DMA is
// translated through it once translation is enabled. In scalable mode that is
// DMA without a PASID. Devices may share a table and a domain id, but a domain
// id stands for one table at a time, because the unit's caches are tagged with
// it: another table is refused with ErrDomainBusy. Domain id 0 is refused. A
// device that is attached must be detached first.
//
// Frames for the tables on the way to the entry are taken from the pool;
// without one nothing is changed.
func (u *Unit) Attach(source, domainID uint16, t Table) error {
	return u.attaching(device(source), source, noPASID, domainID, t)
}

// AttachPASID is Attach for the device's DMA with the given PASID, in scalable
// mode. PASIDs go from 1 to Usable.PASIDs-1.
func (u *Unit) AttachPASID(source uint16, pasid uint32, domainID uint16, t Table) error {
	target := fmt.Sprintf("%s PASID %#x", device(source), pasid)
	if err := u.checkPASID(pasid); err != nil {
		return &OpError{Op: "attach", Target: fmt.Sprintf("%s to %s", target, domain(domainID)), Err: err}
	}
	return u.attaching(target, source, pasid, domainID, t)
}

func (u *Unit) attaching(target string, source uint16, pasid uint32, domainID uint16, t Table) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if err := u.attach(source, pasid, domainID, t); err != nil {
		return &OpError{Op: "attach", Target: fmt.Sprintf("%s to %s", target, domain(domainID)), Err: err}
	}
	return nil
}

func (u *Unit) attach(source uint16, pasid uint32, domainID uint16, t Table) error {
	if err := u.checkDomain(domainID); err != nil {
		return err
	}
	tr, err := u.translation(t)
	if err != nil {
		return err
	}
	if u.attached(source, pasid) {
		return ErrAttached
	}
	if err := u.domains.check(domainID, tr); err != nil {
		return err
	}
	if err := u.forget(); err != nil {
		return err
	}
	if u.enabled { // otherwise Enable does it
		if err := u.forgetDevices(func(at place) bool { return at.source == source }); err != nil {
			return err
		}
	}
	at := place{source, pasid}
	defer func() { u.cover(domainID) }()
	if err := u.announce(domainID, at); err != nil {
		return err
	}
	if u.opts.Mode == Scalable {
		err = u.attachPASID(source, pasid, domainID, tr)
	} else {
		err = u.attachContext(source, domainID, tr)
	}
	if err != nil {
		return err
	}
	u.domains.use(domainID, pasid, tr)
	u.entries[at] = domainID
	return nil
}

// announce makes flushes of a domain cover a device before it can reach
// anything. What it could still find in the unit and keep in a TLB of its own is gone first.
func (u *Unit) announce(domainID uint16, at place) error {
	b := u.bindings[domainID]
	if b == nil {
		return nil
	}
	u.cover(domainID, at)
	if u.queue == nil {
		return nil
	}
	if n, most := b.covered.Load().descriptors(), u.queue.length()-1; n > most {
		return fmt.Errorf("%w: a flush would take %d descriptors, and the queue has %d", ErrTooMany, n, most)
	}
	if _, ok := u.deviceTLBs[at.source]; !ok || !u.walking.Load() {
		return nil
	}
	return u.quiet(context.Background())
}

// Detach takes the device's table away. When it returns without an error,
// nothing of it is cached and the device reaches nothing without a PASID. After
// an error the device is detached too, but the unit, or the device's own TLB, may
// still use what it had cached: the table must not be reused before an
// InvalidateAll succeeds or the unit is disabled. Attach, Invalidate and their like
// drop that first, and fail where they cannot.
func (u *Unit) Detach(source uint16) error {
	return u.detaching(device(source), source, noPASID)
}

// DetachPASID is Detach for the device's DMA with the given PASID.
func (u *Unit) DetachPASID(source uint16, pasid uint32) error {
	target := fmt.Sprintf("%s PASID %#x", device(source), pasid)
	if err := u.checkPASID(pasid); err != nil {
		return &OpError{Op: "detach", Target: target, Err: err}
	}
	return u.detaching(target, source, pasid)
}

func (u *Unit) detaching(target string, source uint16, pasid uint32) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if err := u.detach(source, pasid); err != nil {
		return &OpError{Op: "detach", Target: target, Err: err}
	}
	return nil
}

func (u *Unit) detach(source uint16, pasid uint32) error {
	if u.closed {
		return ErrClosed
	}
	if !u.attached(source, pasid) {
		return ErrNotAttached
	}
	at := place{source, pasid}
	domainID := u.entries[at]
	kind := u.domains.used[domainID].translation.kind
	delete(u.entries, at)
	u.domains.unuse(domainID, pasid)
	defer func() { u.cover(domainID) }()
	if u.opts.Mode == Scalable {
		return u.retirePASIDEntry(source, pasid, domainID, kind)
	}
	return u.retireContextEntry(source, domainID)
}

// A place is where something is attached: a requester id and a PASID.
type place struct {
	source uint16
	pasid  uint32
}

func (u *Unit) attached(source uint16, pasid uint32) bool {
	_, ok := u.entries[place{source, pasid}]
	return ok
}

// translation says how an entry describes t, and refuses a table that the unit
// cannot walk.
func (u *Unit) translation(t Table) (translation, error) {
	can := u.caps.Usable(u.opts.Mode)
	if t == nil {
		return translation{}, fmt.Errorf("%w: it is nil; PassThrough lets a device reach everything", ErrTable)
	}
	if t == PassThrough {
		if !can.PassThrough {
			return translation{}, fmt.Errorf("%w: no pass-through (ECAP %#x)", ErrUnsupported, u.caps.Ecap)
		}
		return translation{kind: untranslated, code: u.caps.widest()}, nil
	}
	if !u.mem.Contains(t.Root()) {
		return translation{}, fmt.Errorf("%w: its root %#x lies outside the unit's memory", ErrTable, t.Root().Bus)
	}
	tr := translation{kind: throughSecond, root: t.Root().Bus}
	widths := can.SecondStage
	if t.Stage() == pagetable.FirstStage {
		tr.kind, widths = throughFirst, can.FirstStage
	}
	if !widths.has(t.AddressWidth()) {
		return translation{}, fmt.Errorf("%w: %d bits wide in %s, and the unit walks %v (CAP %#x, ECAP %#x)",
			ErrTable, t.AddressWidth(), tr.kind, widths, u.caps.Cap, u.caps.Ecap)
	}
	tr.code = uint64(t.AddressWidth()-30) / 9
	return tr, nil
}

func (k translationKind) String() string {
	switch k {
	case throughFirst:
		return "the first stage"
	case throughSecond:
		return "the second stage"
	default:
		return "pass-through"
	}
}

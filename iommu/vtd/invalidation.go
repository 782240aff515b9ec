package vtd

import (
	"context"
	"fmt"
)

// An Invalidation is one thing for a unit to forget, as the specification's
// descriptors and registers have it (section 6.5.2). Drivers of devices need none
// of them: Invalidate, Detach and their like submit what is right. They are for
// what manages more than this package does, and for tests of units.
type Invalidation struct{ r request }

// AllContexts is all context entries.
func AllContexts() Invalidation { return Invalidation{request{kind: ofContexts, granularity: global}} }

// DomainContexts is the context entries of a domain; in scalable mode, where
// these have none, all.
func DomainContexts(domainID uint16) Invalidation {
	return Invalidation{request{kind: ofContexts, granularity: byDomain, domainID: domainID}}
}

// DeviceContexts is the context entry of a device that was in a domain. The
// functions mask, 0 to 3, covers functions that differ in their highest that
// many bits.
func DeviceContexts(domainID, source uint16, functions uint8) Invalidation {
	return Invalidation{request{kind: ofContexts, granularity: selective, domainID: domainID, source: source, functions: functions}}
}

// AllTranslations is everything in the IOTLB.
func AllTranslations() Invalidation { return Invalidation{request{kind: ofIOTLB, granularity: global}} }

// DomainTranslations is everything of a domain in the IOTLB.
func DomainTranslations(domainID uint16) Invalidation {
	return Invalidation{request{kind: ofIOTLB, granularity: byDomain, domainID: domainID}}
}

// Pages is 2^order pages of a domain from iova on, which is aligned to that. With
// leavesOnly the unit keeps what it has cached of tables above the leaves.
func Pages(domainID uint16, iova uint64, order int, leavesOnly bool) Invalidation {
	return Invalidation{request{kind: ofIOTLB, granularity: selective, domainID: domainID, address: iova, mask: order, leaf: leavesOnly}}
}

// AllPASIDs is all PASID table entries.
func AllPASIDs() Invalidation { return Invalidation{request{kind: ofPASIDs, granularity: everyPASID}} }

// DomainPASIDs is the PASID table entries of a domain.
func DomainPASIDs(domainID uint16) Invalidation {
	return Invalidation{request{kind: ofPASIDs, granularity: pasidsOfDomain, domainID: domainID}}
}

// OnePASID is the PASID table entries of a domain for one PASID.
func OnePASID(domainID uint16, pasid uint32) Invalidation {
	return Invalidation{request{kind: ofPASIDs, granularity: ofOnePASID, domainID: domainID, pasid: pasid}}
}

// PASIDTranslations is everything of a domain's PASID that went through the
// first stage.
func PASIDTranslations(domainID uint16, pasid uint32) Invalidation {
	return Invalidation{request{kind: ofPASIDIOTLB, granularity: wholePASID, domainID: domainID, pasid: pasid}}
}

// PASIDPages is Pages of one PASID, through the first stage.
func PASIDPages(domainID uint16, pasid uint32, iova uint64, order int, leavesOnly bool) Invalidation {
	return Invalidation{request{kind: ofPASIDIOTLB, granularity: pagesOfPASID, domainID: domainID, pasid: pasid, address: iova, mask: order, leaf: leavesOnly}}
}

// DevicePages is 2^order pages in the TLB of a device itself; order 52 is all.
func DevicePages(source uint16, iova uint64, order int) Invalidation {
	return Invalidation{request{kind: ofDeviceTLB, source: source, address: iova, mask: order}}
}

// DevicePASIDPages is DevicePages of one PASID.
func DevicePASIDPages(source uint16, pasid uint32, iova uint64, order int) Invalidation {
	return Invalidation{request{kind: ofPASIDDeviceTLB, source: source, pasid: pasid, address: iova, mask: order}}
}

// AllInterrupts is all interrupt remapping entries.
func AllInterrupts() Invalidation {
	return Invalidation{request{kind: ofInterrupts, granularity: everyInterrupt}}
}

// Interrupts is 2^order interrupt remapping entries from index on, which is
// aligned to that.
func Interrupts(index uint16, order int) Invalidation {
	return Invalidation{request{kind: ofInterrupts, granularity: someInterrupts, address: uint64(index), mask: order}}
}

// Fence holds back what follows it until what is before it is done. Without it
// the unit may do all at once.
func Fence() Invalidation { return Invalidation{request{kind: fenced}} }

// Submit has the unit forget several things and returns when it has. An
// invalidation that the unit cannot do is refused with ErrUnsupported or
// ErrRange before anything is told. After a QueueError all others are done. The
// unit must be enabled.
func (u *Unit) Submit(ctx context.Context, invalidations ...Invalidation) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if err := u.submit(ctx, invalidations); err != nil {
		return &OpError{Op: "submit", Target: fmt.Sprintf("%d invalidations", len(invalidations)), Err: err}
	}
	return nil
}

func (u *Unit) submit(ctx context.Context, invalidations []Invalidation) error {
	if err := u.ready(1); err != nil {
		return err
	}
	p := u.newPlan()
	for i := range invalidations {
		r := invalidations[i].r
		if err := u.possible(&r); err != nil {
			return fmt.Errorf("invalidation %d, of %v: %w", i, r.kind, err)
		}
		if d, ok := u.deviceTLBs[r.source]; ok {
			r.depth, r.physical = d.depth, d.physical
		}
		p.add(invalidateRange, r)
	}
	return u.runContext(ctx, p)
}

// possible refuses what the unit cannot do, and would stop its queue at.
func (u *Unit) possible(r *request) error {
	var can bool
	limit := u.caps.MaxAddressMask
	switch r.kind {
	case ofContexts, fenced:
		can = true
	case ofIOTLB:
		can = r.granularity != selective || u.caps.PageSelective
	case ofPASIDs:
		can = u.opts.Mode == Scalable
	case ofPASIDIOTLB:
		can = u.opts.Mode == Scalable && (r.granularity != pagesOfPASID || u.caps.PageSelective)
	case ofDeviceTLB:
		can, limit = u.caps.DeviceTLB && u.queue != nil, 52
	case ofPASIDDeviceTLB:
		can, limit = u.caps.DeviceTLB && u.opts.Mode == Scalable, 52
	case ofInterrupts:
		can, limit = u.caps.InterruptRemapping && u.queue != nil, min(u.caps.MaxInterruptMask, 16)
	}
	switch {
	case !can:
		return ErrUnsupported
	case r.kind == 0:
		return fmt.Errorf("%w: it is the zero Invalidation", ErrUnsupported)
	case r.mask < 0 || r.mask > limit:
		return fmt.Errorf("%w: order %d is not in 0 to %d", ErrRange, r.mask, limit)
	case r.functions > 3:
		return fmt.Errorf("%w: functions mask %d is not in 0 to 3", ErrRange, r.functions)
	case r.pasid >= 1<<20:
		return fmt.Errorf("%w: %#x has more than 20 bits", ErrPASID, r.pasid)
	}
	unit := uint64(4096)
	if r.kind == ofInterrupts {
		unit = 1
	}
	if r.mask < 52 && r.address&(unit<<r.mask-1) != 0 {
		return fmt.Errorf("%w: %#x is not aligned to order %d", ErrRange, r.address, r.mask)
	}
	return nil
}

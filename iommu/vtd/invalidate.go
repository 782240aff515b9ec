package vtd

import (
	"context"
	"fmt"
	"math/bits"

	"gommu/pagetable"
)

// Invalidate drops what the unit has cached of a domain's IOVAs in [iova,
// iova+size). When it returns without an error, no access through these entries
// is under way any more, and what they led to may be reused. It may drop more:
// it covers the range by one aligned power of two of pages, or by the whole
// domain where the unit cannot do less. It fails with ErrNotEnabled while
// translation is off: nothing is cached then, and Enable drops all.
func (u *Unit) Invalidate(domainID uint16, iova, size uint64) error {
	return u.InvalidateRanges(Range{Domain: domainID, IOVA: iova, Size: size})
}

// Flush finishes a batch of unmaps of a domain's table: it drops what the unit
// has cached of what the batch covers and gives the batch's frames back. If it
// fails the batch is as it was, and nothing of it may be reused. While translation
// is off it fails with ErrNotEnabled; then release the batch itself.
func (u *Unit) Flush(domainID uint16, b *pagetable.Batch) error {
	first, last, ok := b.Range()
	if !ok {
		return nil
	}
	var err error
	if size := last - first + 1; size == 0 { // everything
		err = u.InvalidateDomain(domainID)
	} else {
		err = u.InvalidateRanges(Range{Domain: domainID, IOVA: first, Size: size, LeavesOnly: b.Tables() == 0})
	}
	if err != nil {
		return err
	}
	return b.Release()
}

// A Range is a range of a domain's IOVAs.
type Range struct {
	Domain uint16
	IOVA   uint64
	Size   uint64 // bytes, not 0
	// LeavesOnly says that no table was unlinked (pagetable.Batch.Tables is 0).
	// The unit then keeps what it has cached of the tables.
	LeavesOnly bool
}

// InvalidateRanges is Invalidate for several ranges, of one domain or of many,
// which the unit is told together.
func (u *Unit) InvalidateRanges(ranges ...Range) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if err := u.forget(); err != nil {
		return &OpError{Op: "invalidate", Target: fmt.Sprintf("%d ranges", len(ranges)), Err: err}
	}
	p := u.newPlan()
	for i := range ranges {
		if err := u.planRange(&p, invalidateRange, &ranges[i]); err != nil {
			return rangeError("invalidate", &ranges[i], err)
		}
	}
	if len(u.deviceTLBs) > 0 {
		p.fence()
		for i := range ranges {
			address, mask := ranges[i].cover()
			u.planDevices(&p, ranges[i].Domain, address, mask)
		}
	}
	if err := u.run(p); err != nil {
		if len(ranges) == 1 {
			return rangeError("invalidate", &ranges[0], err)
		}
		return &OpError{Op: "invalidate", Target: fmt.Sprintf("%d ranges", len(ranges)), Err: err}
	}
	return nil
}

func rangeError(op string, r *Range, err error) error {
	return &OpError{Op: op, Target: domain(r.Domain), IOVA: r.IOVA, Size: r.Size, Err: err}
}

func (r *Range) cover() (address uint64, mask int) { return cover(r.IOVA, r.Size) }

// cover is the aligned power of two of pages that covers a range.
//
//gommu:nosleep
func cover(iova, size uint64) (address uint64, mask int) {
	first, last := iova>>12, (iova+(size-1))>>12
	mask = bits.Len64(first ^ last)
	return first >> mask << mask << 12, mask
}

// planRange adds what covers a range.
func (u *Unit) planRange(p *plan, at point, r *Range) error {
	if r.Size == 0 || r.IOVA+(r.Size-1) < r.IOVA {
		return fmt.Errorf("%w: it is empty or wraps around", ErrRange)
	}
	if err := u.ready(r.Domain); err != nil {
		return err
	}
	q := request{kind: ofIOTLB, granularity: byDomain, domainID: r.Domain}
	if address, mask := r.cover(); u.caps.PageSelective && mask <= u.caps.MaxAddressMask {
		q.granularity, q.address, q.mask, q.leaf = selective, address, mask, r.LeavesOnly
	}
	use := u.domains.used[r.Domain]
	if use == nil || use.translation.kind != throughFirst {
		p.add(at, q)
		return nil
	}
	q.kind = ofPASIDIOTLB // which encodes both granularities alike
	for pasid := range use.pasids {
		q.pasid = pasid
		p.add(at, q)
	}
	return nil
}

// InvalidateDomain drops all cached translations of a domain, in both stages. It
// waits and fails as Invalidate does.
func (u *Unit) InvalidateDomain(domainID uint16) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	err := u.ready(domainID)
	if err == nil {
		err = u.forget()
	}
	if err == nil {
		p := u.newPlan()
		p.add(invalidateDomain, request{kind: ofIOTLB, granularity: byDomain, domainID: domainID})
		if len(u.deviceTLBs) > 0 {
			p.fence()
			u.planDevices(&p, domainID, 0, allOfDevice)
		}
		err = u.run(p)
	}
	if err != nil {
		return &OpError{Op: "invalidate", Target: domain(domainID), Err: err}
	}
	return nil
}

// InvalidateAll drops all cached context and PASID entries and translations,
// those in devices' TLBs as well. It waits and fails as Invalidate does.
func (u *Unit) InvalidateAll() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	err := u.ready(1)
	if err == nil {
		err = u.dropAll(context.Background())
	}
	if err == nil {
		p := u.newPlan()
		for at := range u.entries {
			u.planDevice(&p, at, 0, allOfDevice)
		}
		err = u.run(p)
	}
	if err == nil {
		err = u.forgetDevices(func(at place) bool { return u.hasContext(at.source) })
	}
	if err != nil {
		return &OpError{Op: "invalidate", Target: "everything", Err: err}
	}
	return nil
}

// Publish lets the unit see entries of a domain's table in [iova, iova+size)
// that were not present and now are. Most units need nothing; one in caching
// mode must drop that they were not, which it caches of the second stage only;
// one with write buffers must flush these (sections 6.1 and 6.8).
func (u *Unit) Publish(domainID uint16, iova, size uint64) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	r := Range{Domain: domainID, IOVA: iova, Size: size}
	if err := u.publish(&r); err != nil {
		return rangeError("publish", &r, err)
	}
	return nil
}

func (u *Unit) publish(r *Range) error {
	use := u.domains.used[r.Domain]
	if u.caps.CachingMode && (use == nil || use.translation.kind != throughFirst) {
		p := u.newPlan()
		if err := u.planRange(&p, publishRange, r); err != nil {
			return err
		}
		return u.run(p)
	}
	if err := u.ready(r.Domain); err != nil {
		return err
	}
	return u.publishedBuffer()
}

// ready says whether a domain's entries can be invalidated.
func (u *Unit) ready(domainID uint16) error {
	if err := u.checkDomain(domainID); err != nil {
		return err
	}
	switch {
	case u.enabled:
		return nil
	case u.walking.Load():
		return ErrUnsettled
	default:
		return ErrNotEnabled
	}
}

// drain are the bits that ask an IOTLB invalidation to wait for DMA that is
// under way, as far as the unit can: writes bit 0, reads bit 1.
//
//gommu:nosleep
func (u *Unit) drain() uint64 {
	var v uint64
	if u.caps.DrainWrites {
		v |= 1
	}
	if u.caps.DrainReads {
		v |= 2
	}
	return v
}

package vtd

import (
	"context"
	"fmt"
	"math/bits"
)

// granularity is how much an invalidation drops. Descriptors and registers
// encode it alike (sections 6.5.1 and 6.5.2).
type granularity uint64

const (
	global    granularity = 1
	byDomain  granularity = 2
	selective granularity = 3 // contexts: of one device; IOTLB: of pages
)

// An invalidator drops what the unit has cached and returns when it is dropped.
type invalidator interface {
	// context drops context entries.
	context(ctx context.Context, g granularity, domainID, source uint16) error
	// iotlb drops translations. Pages are 2^mask from iova on, which is aligned
	// to that. Translations of all levels go, not only leaves.
	iotlb(ctx context.Context, g granularity, domainID uint16, iova uint64, mask int) error
}

// Invalidate drops what the unit has cached of a domain's IOVAs in [iova,
// iova+size). When it returns without an error, no access through these entries
// is under way any more, and what they led to may be reused. It may drop more:
// it covers the range by one aligned power of two of pages, or by the whole
// domain where the unit cannot do less.
func (u *Unit) Invalidate(domainID uint16, iova, size uint64) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if err := u.invalidate(domainID, iova, size); err != nil {
		return &OpError{Op: "invalidate", Target: domain(domainID), IOVA: iova, Size: size, Err: err}
	}
	return nil
}

func (u *Unit) invalidate(domainID uint16, iova, size uint64) error {
	if size == 0 || iova+(size-1) < iova {
		return fmt.Errorf("%w: it is empty or wraps around", ErrRange)
	}
	if err := u.ready(domainID); err != nil {
		return err
	}
	first, last := iova>>12, (iova+(size-1))>>12
	mask := bits.Len64(first ^ last)
	if !u.caps.PageSelective || mask > u.caps.MaxAddressMask {
		return u.inv.iotlb(context.Background(), byDomain, domainID, 0, 0)
	}
	return u.inv.iotlb(context.Background(), selective, domainID, first>>mask<<mask<<12, mask)
}

// InvalidateDomain drops all cached translations of a domain.
func (u *Unit) InvalidateDomain(domainID uint16) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	err := u.ready(domainID)
	if err == nil {
		err = u.inv.iotlb(context.Background(), byDomain, domainID, 0, 0)
	}
	if err != nil {
		return &OpError{Op: "invalidate", Target: domain(domainID), Err: err}
	}
	return nil
}

// InvalidateAll drops all cached context entries and translations.
func (u *Unit) InvalidateAll() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	err := u.ready(1)
	if err == nil {
		err = u.inv.context(context.Background(), global, 0, 0)
	}
	if err == nil {
		err = u.inv.iotlb(context.Background(), global, 0, 0, 0)
	}
	if err != nil {
		return &OpError{Op: "invalidate", Target: "everything", Err: err}
	}
	return nil
}

// Publish lets the unit see entries of a domain's table in [iova, iova+size)
// that were not present and now are. Most units need nothing; one in caching
// mode must drop that they were not, one with write buffers must flush these
// (sections 6.1 and 6.8).
func (u *Unit) Publish(domainID uint16, iova, size uint64) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	var err error
	switch {
	case u.caps.CachingMode:
		err = u.invalidate(domainID, iova, size)
	default:
		if err = u.ready(domainID); err == nil {
			err = u.flushWriteBuffer(context.Background())
		}
	}
	if err != nil {
		return &OpError{Op: "publish", Target: domain(domainID), IOVA: iova, Size: size, Err: err}
	}
	return nil
}

// ready says whether a domain's entries can be invalidated.
func (u *Unit) ready(domainID uint16) error {
	if err := u.checkDomain(domainID); err != nil {
		return err
	}
	if !u.enabled {
		return ErrNotEnabled
	}
	return nil
}

// drain are the bits that ask an IOTLB invalidation to wait for DMA that is
// under way, as far as the unit can: writes bit 0, reads bit 1.
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

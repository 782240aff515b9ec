package vtd

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"gommu/pagetable"
)

// A Table is a second-stage page table, such as a *pagetable.Table.
type Table interface {
	Root() pagetable.Frame // its top page
	AddressWidth() int     // bits of IOVA: 39, 48 or 57
}

// Root and context entries are 16 bytes (sections 9.1 and 9.3). Low half of both:
// P is bit 0, the next table's address bits 63:12; of a context entry also the
// translation type, bits 3:2, 0 for "walk the second stage". High half of a
// context entry: address width bits 2:0 (levels-2), domain id bits 23:8.
const (
	entryPresent  = 1 << 0
	contextDomain = 8
)

// Attach gives the device with the given requester id the table t: its DMA is
// translated through it once translation is enabled. Devices may share a table
// and a domain id, but a domain id stands for one table at a time: the unit's
// caches are tagged with it. Domain id 0 is refused. A device that is attached
// must be detached first.
//
// The frame for a bus's context table is taken from the pool when the bus's
// first device is attached; without one nothing is changed.
func (u *Unit) Attach(source, domainID uint16, t Table) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if err := u.attach(source, domainID, t); err != nil {
		return &OpError{Op: "attach", Target: fmt.Sprintf("%s to %s", device(source), domain(domainID)), Err: err}
	}
	return nil
}

func (u *Unit) attach(source, domainID uint16, t Table) error {
	if err := u.checkDomain(domainID); err != nil {
		return err
	}
	width, err := u.widthCode(t)
	if err != nil {
		return err
	}
	contexts, err := u.contextTable(source >> 8)
	if err != nil {
		return err
	}
	entry := contexts[2*(source&0xff):][:2]
	if atomic.LoadUint64(&entry[0])&entryPresent != 0 {
		return ErrAttached
	}
	// P comes last: the unit may read the entry at any time.
	atomic.StoreUint64(&entry[1], uint64(domainID)<<contextDomain|width)
	atomic.StoreUint64(&entry[0], t.Root().Bus|entryPresent)
	u.flush(entry)
	if err := u.published(source, domainID); err != nil {
		return errors.Join(err, u.retire(entry, source, domainID))
	}
	return nil
}

// widthCode is the address width of t as a context entry holds it.
func (u *Unit) widthCode(t Table) (uint64, error) {
	if !u.mem.Contains(t.Root()) {
		return 0, fmt.Errorf("%w: its root %#x lies outside the unit's memory", ErrTable, t.Root().Bus)
	}
	switch width := t.AddressWidth(); {
	case width == 39 && u.caps.Width39:
		return 1, nil
	case width == 48 && u.caps.Width48:
		return 2, nil
	case width == 57 && u.caps.Width57:
		return 3, nil
	default:
		return 0, fmt.Errorf("%w: %d bits wide (CAP %#x)", ErrTable, width, u.caps.Cap)
	}
}

// contextTable is the context table of a bus, made if it is missing.
func (u *Unit) contextTable(bus uint16) (*[512]uint64, error) {
	if t := u.contexts[bus]; t != nil {
		return t, nil
	}
	f, entries, err := u.frame()
	if err != nil {
		return nil, fmt.Errorf("context table: %w", err)
	}
	u.contexts[bus] = entries
	root := u.mem.Entries(u.root)[2*bus:][:2]
	atomic.StoreUint64(&root[0], f.Bus|entryPresent)
	u.flush(root)
	return entries, nil
}

// published lets the unit see an entry that has become present. Only a unit in
// caching mode has cached that it was not; there these are tagged with domain
// id 0 (section 6.1).
func (u *Unit) published(source, domainID uint16) error {
	switch ctx := context.Background(); {
	case !u.enabled:
		return nil
	case u.caps.CachingMode:
		if err := u.inv.context(ctx, selective, 0, source); err != nil {
			return err
		}
		return u.inv.iotlb(ctx, byDomain, domainID, 0, 0)
	default:
		return u.flushWriteBuffer(ctx)
	}
}

// unpublished makes the unit forget an entry that was present: first the
// context, then what was translated through it (section 6.5.1.1).
func (u *Unit) unpublished(source, domainID uint16) error {
	if !u.enabled {
		return nil
	}
	ctx := context.Background()
	if err := u.inv.context(ctx, selective, domainID, source); err != nil {
		return err
	}
	return u.inv.iotlb(ctx, byDomain, domainID, 0, 0)
}

// Detach takes the device's table away. When it returns without an error,
// nothing of it is cached and the device reaches nothing. After an error the
// device is detached too, but the unit may still use what it had cached: the
// table must not be reused.
func (u *Unit) Detach(source uint16) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if err := u.detach(source); err != nil {
		return &OpError{Op: "detach", Target: device(source), Err: err}
	}
	return nil
}

func (u *Unit) detach(source uint16) error {
	if u.closed {
		return ErrClosed
	}
	contexts := u.contexts[source>>8]
	if contexts == nil {
		return ErrNotAttached
	}
	entry := contexts[2*(source&0xff):][:2]
	if atomic.LoadUint64(&entry[0])&entryPresent == 0 {
		return ErrNotAttached
	}
	return u.retire(entry, source, uint16(atomic.LoadUint64(&entry[1])>>contextDomain))
}

// retire takes a context entry away. A unit may read the two halves of an entry
// at different times, and must not find P with the rest gone: the rest stays until
// the unit has been told (section 6.5.3.3), and after an error until the next Attach.
func (u *Unit) retire(entry []uint64, source, domainID uint16) error {
	atomic.StoreUint64(&entry[0], 0)
	u.flush(entry)
	if err := u.unpublished(source, domainID); err != nil {
		return err
	}
	atomic.StoreUint64(&entry[1], 0)
	u.flush(entry)
	return nil
}

// checkDomain refuses a domain id that the unit does not have.
func (u *Unit) checkDomain(id uint16) error {
	if u.closed {
		return ErrClosed
	}
	if id == 0 || int(id) >= u.caps.Domains {
		return fmt.Errorf("%w: %d is not in 1 to %d", ErrDomainID, id, u.caps.Domains-1)
	}
	return nil
}

package vtd

import (
	"fmt"

	"gommu/iommu"
)

// The answers of what must not sleep are made here, because making one allocates.
var (
	errFlush = &OpError{Op: "flush", Err: fmt.Errorf("%w: call Recover", iommu.ErrFlush)}
	errLost  = &OpError{Op: "flush", Err: fmt.Errorf("%w: %w", iommu.ErrFlush, ErrGone)}
	errSlow  = &OpError{Op: "publish", Err: fmt.Errorf("%w (about a millisecond)", ErrTimeout)}
	errBegin = &OpError{Op: "flush", Err: ErrClosed}
	errWrap  = &OpError{Op: "flush", Err: ErrRange}
)

// Begin tells the unit to forget size bytes of the domain at iova, all of it if
// size is 0, and devices that have TLBs to do the same. It does not wait: Done
// says when that has happened. With leavesOnly no table was unlinked, and the unit
// keeps what it has cached of tables. It may drop more, as Unit.Invalidate. While
// translation is off nothing is cached, and the ticket is done.
//
// It fails with iommu.ErrBusy itself while somebody else is telling the unit
// something, while the queue is full, and on a unit without a queue while
// another flush is on its way; with iommu.ErrFlush after a failure, until Recover.
//
//gommu:nosleep
func (b *Binding) Begin(iova, size uint64, leavesOnly bool) (iommu.Ticket, error) {
	if iova+(size-1) < iova && size != 0 {
		return 0, errWrap
	}
	n, err := b.begin(iova, size, leavesOnly || !keep(beginTables), true)
	return iommu.Ticket(n), err
}

// begin is Begin, and without devices what a Map has to tell a unit in caching
// mode.
//
//gommu:nosleep
func (b *Binding) begin(iova, size uint64, leavesOnly, devices bool) (uint64, error) {
	u := b.u
	if !u.turn.try() {
		return 0, iommu.ErrBusy
	}
	n, err := u.number, error(nil)
	c := b.covered.Load()
	switch {
	case c == nil:
		err = errBegin
	case !u.walking.Load(): // nothing is cached
	case u.doubted.Load() != noDoubt || b.doubted.Load() != noDoubt || u.stale.Load():
		err = u.failure()
	default:
		r := request{kind: ofIOTLB, granularity: byDomain, domainID: b.id}
		address, mask := uint64(0), allOfDevice
		if size != 0 {
			address, mask = cover(iova, size)
			if u.caps.PageSelective && mask <= u.caps.MaxAddressMask {
				r.granularity, r.address, r.mask, r.leaf = selective, address, mask, leavesOnly
			}
		}
		if u.queue == nil {
			n, err = u.commandBegin(&r)
		} else {
			n, err = u.queue.begin(c, &r, address, mask, devices)
		}
	}
	u.turn.give()
	return n, err
}

// begin puts a flush into the queue: r, for each PASID of a first stage, then
// what devices are to forget.
//
//gommu:nosleep
func (q *queue) begin(c *coverage, r *request, address uint64, mask int, devices bool) (uint64, error) {
	if q.room() < c.descriptors() {
		return 0, iommu.ErrBusy
	}
	told := 0
	if keep(beginRange) {
		told += q.beginRange(c, r)
	}
	if devices && len(c.devices) > 0 {
		if keep(beginFence) {
			q.append(q.filler(waitFence))
		}
		for i := range c.devices {
			if keep(beginDevice) {
				d := c.devices[i]
				d.address, d.mask = address, mask
				q.append(q.descriptor(&d))
				told++
			}
		}
	}
	q.begun = q.submitted(told)
	return q.begun, nil
}

// beginRange puts r into the queue. Pages of a first stage are told by PASID; a
// domain's PASIDs need not be (section 6.5.2.3, table 23).
//
//gommu:nosleep
func (q *queue) beginRange(c *coverage, r *request) int {
	if r.granularity != selective || len(c.pasids) == 0 {
		if c.firstStage {
			r.granularity, r.address, r.mask, r.leaf = byDomain, 0, 0, false
		}
		q.append(q.descriptor(r))
		return 1
	}
	r.kind = ofPASIDIOTLB
	for _, pasid := range c.pasids {
		r.pasid = pasid
		q.append(q.descriptor(r))
	}
	return len(c.pasids)
}

// Done says whether what Begin asked for has happened: then what the range led
// to may be reused, as far as this flush and those begun before it cover. An error, which is
// iommu.ErrFlush, says that the unit failed, and that it, or a device, may go on
// using what it has; it comes for all tickets that were not done by then, until
// Recover. That a unit has stopped is noticed after some hundred calls in vain, of whomever: in between
// Done looks at memory only. On a unit without a queue each call in vain reads a register.
//
//gommu:nosleep
func (b *Binding) Done(t iommu.Ticket) (bool, error) { return b.done(uint64(t)) }

// done looks at the unit's word first and then at whether it counts: a failure
// is noted before the unit is made to go on, and forgotten after all is done. A
// failure of the unit becomes one of some domains, so their notes come last.
//
//gommu:nosleep
func (b *Binding) done(n uint64) (bool, error) {
	u := b.u
	reached := n <= u.confirmed.Load() || !keep(beginWait)
	if !reached {
		if u.queue != nil {
			reached = u.queue.reached(n)
		} else {
			u.commandDone()
			reached = n <= u.confirmed.Load()
		}
	}
	switch {
	case n >= u.doubted.Load() || n >= b.doubted.Load():
		return false, u.failure()
	case reached:
		return true, nil
	case u.queue != nil && u.looks.Add(1)%looks == 0:
		u.look()
	}
	return false, nil
}

// looks is how many calls of Done in vain there are for one look at the unit's
// registers: these take as long as hundreds of looks at memory.
const looks = 256

// look asks the unit whether it has stopped. What a device answered unasked is
// no failure, and some units only have to be told to go on.
//
//gommu:nosleep
func (u *Unit) look() {
	if !u.turn.try() {
		return // another time
	}
	if u.walking.Load() {
		switch fault := u.regs.Read32(regFSTS); {
		case fault == gone32:
			u.lost.Store(true)
			u.doubt(u.queue.confirm() + 1)
		case fault&(faultQueue|faultTimeout) != 0:
			u.doubt(u.queue.confirm() + 1)
		case fault&faultCompletion != 0:
			u.stats.Completions++
			u.regs.Write32(regFSTS, faultCompletion)
			u.queue.doorbell()
		}
	}
	u.turn.give()
}

// failure is the answer after a failure.
//
//gommu:nosleep
func (u *Unit) failure() error {
	if u.lost.Load() {
		return errLost
	}
	return errFlush
}

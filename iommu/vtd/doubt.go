package vtd

import (
	"context"
	"errors"
	"fmt"

	"gommu/iommu"
)

// Recover makes a unit that failed at a flush go on and has it, and the devices
// that have TLBs, forget everything: then all flushes are done. It fails while a
// device of this domain does not answer: then only this domain's flushes stay in doubt, and the
// others go on. Detach that device, and recover again. It waits for the unit as all
// calls of Unit do; without a failure it does nothing.
func (b *Binding) Recover() error {
	u := b.u
	u.mu.Lock()
	defer u.mu.Unlock()
	err := u.forget()
	if err == nil && b.doubted.Load() != noDoubt && u.walking.Load() {
		err = u.tellDevices(func(id uint16) bool { return id == b.id })
		if err == nil {
			b.doubted.Store(noDoubt)
		}
	}
	if b.doubted.Load() != noDoubt {
		err = errors.Join(iommu.ErrFlush, err)
	}
	if err != nil && u.regs.Read32(regVER) == gone32 {
		err = errors.Join(ErrGone, err)
	}
	if err != nil {
		return &OpError{Op: "recover", Target: domain(b.id), Err: err}
	}
	return nil
}

// recover makes devices forget all that they may have kept when the unit failed,
// which has forgotten all itself. Begin refuses until then, so nothing is told
// meanwhile. A device that does not answer leaves the flushes of its domains in doubt.
func (u *Unit) recover() error {
	err := u.tellDevices(func(uint16) bool { return true })
	silent := make(map[uint16]bool)
	if !silentDevices(err, silent) || u.queue.busy() {
		return errors.Join(iommu.ErrFlush, err)
	}
	from := u.doubted.Load()
	for _, b := range u.bindings {
		switch {
		case !b.covered.Load().any(silent):
			b.doubted.Store(noDoubt)
		case from < b.doubted.Load():
			b.doubted.Store(from)
		}
	}
	u.turn.take()
	defer u.turn.leave()
	u.settle()
	return nil
}

// tellDevices makes the TLBs of devices in some domains forget everything.
func (u *Unit) tellDevices(which func(domainID uint16) bool) error {
	p := u.newPlan()
	for at, id := range u.entries {
		if which(id) {
			u.planDevice(&p, at, 0, allOfDevice)
		}
	}
	return errors.Join(u.run(p), u.forgetDevices(func(at place) bool { return which(u.silent[at]) && u.hasContext(at.source) }))
}

// silentDevices collects the devices that did not answer. It says false if
// something else went wrong too, or the unit does not say which they are.
func silentDevices(err error, sources map[uint16]bool) bool {
	switch e := err.(type) {
	case nil:
		return true
	case *QueueError:
		if e.Timeout && e.Source >= 0 && !e.Queue {
			sources[uint16(e.Source)] = true
			return true
		}
		return false
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			if !silentDevices(err, sources) {
				return false
			}
		}
		return true
	case interface{ Unwrap() error }:
		return e.Unwrap() != nil && silentDevices(e.Unwrap(), sources)
	default:
		return false
	}
}

// any says whether a flush tells one of the devices.
func (c *coverage) any(sources map[uint16]bool) bool {
	for i := range c.devices {
		if sources[c.devices[i].source] {
			return true
		}
	}
	return false
}

// forget makes the unit drop everything if something that should have been
// dropped may still be cached, and devices if a flush of Begin's failed.
func (u *Unit) forget() error {
	doubted := u.doubted.Load() != noDoubt
	if !u.stale.Load() && !doubted || !u.walking.Load() {
		return nil
	}
	err := u.dropAll(context.Background())
	if err == nil && doubted {
		err = u.recover()
	}
	if err != nil {
		return fmt.Errorf("drop what an earlier failure left cached: %w", err)
	}
	return nil
}

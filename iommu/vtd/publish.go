package vtd

import "gommu/iommu"

// How often Publish asks the unit at most: in memory, and by reading a register.
// Each takes about a millisecond.
const (
	publishSpins  = 1 << 17
	registerSpins = 1 << 10
)

// Publish is Unit.Publish where nobody may sleep. It returns at once on units
// that need nothing. On others it spins until the unit is done, for about a
// millisecond at most: then it fails with ErrTimeout, or with iommu.ErrBusy if the
// turn to tell the unit did not come; the device may not reach what was mapped, and the
// caller unmaps it, or calls again.
//
//gommu:nosleep
func (b *Binding) Publish(iova, size uint64) error {
	u := b.u
	switch c := b.covered.Load(); {
	case c == nil:
		return errBegin
	case size == 0 || iova+(size-1) < iova:
		return errWrap
	case u.caps.CachingMode && !c.firstStage:
		if keep(publishRange) {
			return b.publishRange(iova, size)
		}
	case u.caps.WriteBufferFlush && keep(writeBuffer):
		return u.spinWriteBuffer()
	}
	return nil
}

// publishRange drops that the range was not present. Devices keep no such.
//
//gommu:nosleep
func (b *Binding) publishRange(iova, size uint64) error {
	limit := publishSpins
	if b.u.queue == nil {
		limit = registerSpins
	}
	n, err := b.begin(iova, size, false, false)
	spins := 0
	for ; err == iommu.ErrBusy && spins < limit; spins++ {
		n, err = b.begin(iova, size, false, false)
	}
	for ; err == nil && spins < limit; spins++ {
		var done bool
		if done, err = b.done(n); done {
			return nil
		}
	}
	if err == nil {
		return errSlow
	}
	return err
}

// spinWriteBuffer is flushWriteBuffer for who must not sleep.
//
//gommu:nosleep
func (u *Unit) spinWriteBuffer() error {
	spins := 0
	for ; !u.turn.try(); spins++ {
		if spins >= publishSpins {
			return iommu.ErrBusy
		}
	}
	err := error(nil)
	if u.walking.Load() {
		status := u.regs.Read32(regGSTS)
		if status != gone32 {
			u.regs.Write32(regGCMD, status&globalState|globalWBF)
			status = u.regs.Read32(regGSTS)
		}
		for spins = 0; status != gone32 && status&globalWBF != 0 && err == nil; spins++ {
			status = u.regs.Read32(regGSTS)
			if spins >= registerSpins {
				err = errSlow
			}
		}
		if status == gone32 {
			err = errLost
		}
	}
	u.turn.give()
	return err
}

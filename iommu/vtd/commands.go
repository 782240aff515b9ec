package vtd

import (
	"context"
	"fmt"

	"gommu/iommu"
)

// commands invalidates through CCMD_REG and the IOTLB registers, one command at
// a time (section 6.5.1; layouts in 11.4.6). They know contexts and the IOTLB of
// legacy mode only.
type commands struct{ u *Unit }

// firstWithoutCommands is the major version from which units take invalidations
// only through the queue (section 6.5).
const firstWithoutCommands = 6

const (
	commandBusy = 1 << 63 // ICC, IVT

	contextGranularity = 61 // CIRG
	contextPerformed   = 59 // CAIG
	contextFunctions   = 32 // FM
	contextSource      = 16

	iotlbGranularity = 60 // IIRG
	iotlbPerformed   = 57 // IAIG
	iotlbDrain       = 48
	iotlbDomain      = 32
)

func (c commands) run(ctx context.Context, requests []request) error {
	c.u.turn.take()
	defer c.u.turn.leave()
	if !c.u.commandSettled() {
		if _, err := c.u.wait64(ctx, "IOTLB", c.u.caps.IOTLBOffset+8, commandBusy); err != nil {
			return err
		}
		c.u.commandSettled()
	}
	for i := range requests {
		var err error
		switch r := &requests[i]; r.kind {
		case ofContexts:
			err = c.context(ctx, r)
		case ofIOTLB:
			err = c.iotlb(ctx, r)
		case fenced: // each is done before the next is told
		default:
			err = ErrUnsupported
		}
		if err != nil {
			return fmt.Errorf("invalidate %v: %w", requests[i].kind, err)
		}
	}
	return nil
}

func (c commands) context(ctx context.Context, r *request) error {
	v := commandBusy | uint64(r.granularity)<<contextGranularity | uint64(r.functions)<<contextFunctions |
		uint64(r.source)<<contextSource | uint64(r.domainID)
	return c.issue(ctx, "CCMD", regCCMD, v, contextPerformed)
}

func (c commands) iotlb(ctx context.Context, r *request) error {
	return c.issue(ctx, "IOTLB", c.u.caps.IOTLBOffset+8, c.u.iotlbCommand(r), iotlbPerformed)
}

// iotlbCommand is the command for a request, whose pages are put into their register.
//
//gommu:nosleep
func (u *Unit) iotlbCommand(r *request) uint64 {
	if r.granularity == selective {
		u.regs.Write64(u.caps.IOTLBOffset, r.pages())
	}
	return commandBusy | uint64(r.granularity)<<iotlbGranularity | u.drain()<<iotlbDrain | uint64(r.domainID)<<iotlbDomain
}

// commandBegin gives a command and does not wait, unless another is on its way.
//
//gommu:nosleep
func (u *Unit) commandBegin(r *request) (uint64, error) {
	switch {
	case !u.commandSettled():
		return 0, iommu.ErrBusy
	case u.doubted.Load() != noDoubt:
		return 0, u.failure()
	}
	if keep(beginRange) {
		u.regs.Write64(u.caps.IOTLBOffset+8, u.iotlbCommand(r))
	}
	u.number++
	return u.number, nil
}

// commandDone notes it if the command that is on its way is done.
//
//gommu:nosleep
func (u *Unit) commandDone() {
	if u.turn.try() {
		u.commandSettled()
		u.turn.give()
	}
}

// commandSettled says whether no command of Begin's is on its way any more.
//
//gommu:nosleep
func (u *Unit) commandSettled() bool {
	if u.number == u.confirmed.Load() || u.doubted.Load() <= u.number {
		return true
	}
	switch v := u.regs.Read64(u.caps.IOTLBOffset + 8); {
	case v == gone64:
		u.lost.Store(true)
		u.doubt(u.number)
	case v&commandBusy != 0:
		return false
	case v>>iotlbPerformed&3 == 0:
		u.doubt(u.number)
	default:
		u.confirmed.Store(u.number)
	}
	return true
}

// issue writes a command when the register is free and waits until it is done.
// The unit says what it did, which may be more than was asked, in two bits; 0
// is nothing.
func (c commands) issue(ctx context.Context, name string, off, v uint64, performed int) error {
	if _, err := c.u.wait64(ctx, name, off, commandBusy); err != nil {
		return err
	}
	c.u.regs.Write64(off, v)
	if !keep(waitDone) {
		return nil
	}
	done, err := c.u.wait64(ctx, name, off, commandBusy)
	if err != nil {
		return err
	}
	if done>>performed&3 == 0 {
		return fmt.Errorf("%w: %s was given %#x and is %#x", ErrNotInvalidated, name, v, done)
	}
	return nil
}

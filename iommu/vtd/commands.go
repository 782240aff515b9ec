package vtd

import (
	"context"
	"fmt"
)

// commands invalidates through CCMD_REG and the IOTLB registers, one command at
// a time (section 6.5.1; layouts in 11.4.6).
type commands struct{ u *Unit }

// firstWithoutCommands is the major version from which units take invalidations
// only through the queue (section 6.5).
const firstWithoutCommands = 6

const (
	commandBusy = 1 << 63 // ICC, IVT

	contextGranularity = 61 // CIRG
	contextPerformed   = 59 // CAIG
	contextSource      = 16

	iotlbGranularity = 60 // IIRG
	iotlbPerformed   = 57 // IAIG
	iotlbDrain       = 48
	iotlbDomain      = 32
)

func (c commands) context(ctx context.Context, g granularity, domainID, source uint16) error {
	v := commandBusy | uint64(g)<<contextGranularity | uint64(source)<<contextSource | uint64(domainID)
	if err := c.issue(ctx, "CCMD", regCCMD, v, contextPerformed); err != nil {
		return fmt.Errorf("invalidate contexts: %w", err)
	}
	return nil
}

func (c commands) iotlb(ctx context.Context, g granularity, domainID uint16, iova uint64, mask int) error {
	address, command := c.u.caps.IOTLBOffset, c.u.caps.IOTLBOffset+8
	if g == selective {
		c.u.regs.Write64(address, iova|uint64(mask))
	}
	v := commandBusy | uint64(g)<<iotlbGranularity | c.u.drain()<<iotlbDrain | uint64(domainID)<<iotlbDomain
	if err := c.issue(ctx, "IOTLB", command, v, iotlbPerformed); err != nil {
		return fmt.Errorf("invalidate IOTLB: %w", err)
	}
	return nil
}

// issue writes a command when the register is free and waits until it is done.
// The unit says what it did, which may be more than was asked, in two bits; 0
// is nothing.
func (c commands) issue(ctx context.Context, name string, off, v uint64, performed int) error {
	if _, err := c.u.wait64(ctx, name, off, commandBusy); err != nil {
		return err
	}
	c.u.regs.Write64(off, v)
	done, err := c.u.wait64(ctx, name, off, commandBusy)
	if err != nil {
		return err
	}
	if done>>performed&3 == 0 {
		return fmt.Errorf("%w: %s was given %#x and is %#x", ErrNotInvalidated, name, v, done)
	}
	return nil
}

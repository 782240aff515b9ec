package vtd

import (
	"context"
	"iter"
	"time"
)

// An Interrupt is a message that a unit writes and that this process can wait
// for, such as an MSI vector with an eventfd behind it, or a word of memory that
// the unit's writes reach.
type Interrupt interface {
	// Message is the address that the unit writes to and what it writes.
	Message() (address uint64, data uint32)
	// Wait returns when the message was written since Wait returned last, or
	// with ctx's error.
	Wait(ctx context.Context) error
}

// A FaultEvent is a fault, and whether others were lost.
type FaultEvent struct {
	// Fault is what the unit recorded. If all that is known is that faults were
	// lost, its Reason is 0.
	Fault Fault
	// Lost says that the unit had no room for at least one more fault. It is
	// set in the last event of those that were recorded before.
	Lost bool
}

// FaultEvents delivers the faults that the unit records, in order, until ctx
// ends or the caller leaves the loop. Between faults it waits for
// Options.FaultInterrupt or looks every Options.FaultPoll. If the unit is gone
// or closed, the last pair has the error. It may run before the unit is enabled
// and while it is disabled. What one loop, or Faults, takes no other sees.
//
// A unit has few records and the loop empties all of them at once; those who
// want to lose nothing must not be slow in it.
func (u *Unit) FaultEvents(ctx context.Context) iter.Seq2[FaultEvent, error] {
	return func(yield func(FaultEvent, error) bool) {
		for ctx.Err() == nil {
			faults, lost, err := u.Faults()
			for i, f := range faults {
				if !yield(FaultEvent{Fault: f, Lost: lost && i == len(faults)-1}, nil) {
					return
				}
			}
			if lost && len(faults) == 0 && !yield(FaultEvent{Lost: true}, nil) {
				return
			}
			if err == nil {
				if err = u.waitFault(ctx); err != nil && ctx.Err() == nil {
					err = &OpError{Op: "wait for faults", Err: err}
				}
			}
			if err != nil {
				if ctx.Err() == nil {
					yield(FaultEvent{}, err)
				}
				return
			}
		}
	}
}

// waitFault waits until there may be faults.
func (u *Unit) waitFault(ctx context.Context) error {
	if u.opts.FaultInterrupt != nil {
		return u.opts.FaultInterrupt.Wait(ctx)
	}
	t := time.NewTimer(u.opts.FaultPoll)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// armFaults lets the unit send its fault message, or no longer that of who had it
// before. It is masked while it is changed, and each register is written by itself
// (11.4.7.2 to 11.4.7.5).
func (u *Unit) armFaults() {
	u.regs.Write32(regFECTL, eventMask)
	if u.opts.FaultInterrupt == nil {
		return
	}
	address, data := u.opts.FaultInterrupt.Message()
	u.regs.Write32(regFEDATA, data)
	u.regs.Write32(regFEADDR, uint32(address))
	u.regs.Write32(regFEUADDR, uint32(address>>32))
	u.regs.Write32(regFECTL, 0)
}

// maskFaults ends that.
func (u *Unit) maskFaults() {
	if u.opts.FaultInterrupt != nil {
		u.regs.Write32(regFECTL, eventMask)
	}
}

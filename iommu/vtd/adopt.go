package vtd

import (
	"context"
	"fmt"
)

// Adopted is the state that a unit was found in: what firmware, or a kernel or
// process that is gone, left on.
type Adopted struct {
	Translating bool
	Queued      bool   // its invalidation queue was on
	Mode        Mode   // that it translated in
	Root        uint64 // bus address of its root table
	Queue       uint64 // bus address of its queue
}

// Adopted returns the state in which Open found the unit, and false if it was
// off.
func (u *Unit) Adopted() (Adopted, bool) {
	return u.adopted, u.adopted.Translating || u.adopted.Queued
}

// adopt switches off what is on, in the order of Disable: translation, then the
// queue when it has become empty. The caches need not be dropped before Enable,
// which drops them all: without translation the unit uses none.
func (u *Unit) adopt(ctx context.Context) error {
	status := u.regs.Read32(regGSTS)
	if status == gone32 {
		return ErrGone
	}
	if status&(globalTE|globalQIE) == 0 {
		return nil
	}
	root, address := u.regs.Read64(regRTADDR), u.regs.Read64(regIQA)
	if root == gone64 || address == gone64 {
		return ErrGone
	}
	u.adopted = Adopted{Translating: status&globalTE != 0, Queued: status&globalQIE != 0, Root: root &^ 0xfff, Queue: address &^ 0xfff}
	if root&rootMode == rootScalable {
		u.adopted.Mode = Scalable
	}
	if err := u.command(ctx, globalTE, false, 0); err != nil {
		return fmt.Errorf("disable translation: %w", err)
	}
	if u.adopted.Queued {
		if err := u.drainForeign(ctx); err != nil {
			return err
		}
	}
	if err := u.command(ctx, globalQIE, false, 0); err != nil {
		return fmt.Errorf("disable the invalidation queue: %w", err)
	}
	return nil
}

// drainForeign waits until somebody else's queue is empty. If the unit stopped
// at a time-out of a device, it is made to go on; a bad descriptor stays, because
// that queue is not ours to write to.
func (u *Unit) drainForeign(ctx context.Context) error {
	fault := u.regs.Read32(regFSTS)
	if fault == gone32 {
		return ErrGone
	}
	if fault&(faultTimeout|faultCompletion) != 0 {
		u.regs.Write32(regFSTS, faultTimeout|faultCompletion)
	}
	p := u.poll(ctx)
	for {
		head, tail := u.regs.Read64(regIQH), u.regs.Read64(regIQT)
		if head == gone64 || tail == gone64 {
			return ErrGone
		}
		if head&queueHead == tail&queueHead {
			return nil
		}
		if err := p.pause(); err != nil {
			return fmt.Errorf("the queue that was left on does not become empty (head %#x, tail %#x): %w", head, tail, err)
		}
	}
}

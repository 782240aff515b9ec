package vtd

import (
	"context"
	"errors"
	"fmt"
)

// Enable switches translation on. From then on a device reaches what its
// attached table maps, and one without an attached table reaches nothing. The
// order is that of sections 6.5.2, 6.6 and 11.4.4.1: old faults cleared, queue on,
// root table pointer set, everything cached dropped, translation on. An error
// leaves the unit as it was, off, as far as the unit obeys. Enabling twice is
// harmless.
//
// What firmware protected from DMA until now (protected memory regions) is
// released.
func (u *Unit) Enable(ctx context.Context) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return &OpError{Op: "enable", Err: ErrClosed}
	}
	if u.enabled && u.told&globalTE != 0 { // no Disable was given up since
		return nil
	}
	if err := u.enable(ctx); err != nil {
		if errors.Is(err, ErrGone) {
			u.off()
		} else {
			err = errors.Join(err, u.disable(context.Background()))
		}
		return &OpError{Op: "enable", Err: err}
	}
	u.enabled = true
	return nil
}

func (u *Unit) enable(ctx context.Context) error {
	if err := u.flushWriteBuffer(ctx); err != nil {
		return err
	}
	if _, _, err := u.drainFaults(); err != nil { // left by who had the unit before
		return err
	}
	u.armFaults()
	if u.queue != nil {
		if err := u.queue.enable(ctx); err != nil {
			return err
		}
	}
	address := u.root.Bus // TTM 0: legacy (11.4.5)
	if u.opts.Mode == Scalable {
		address |= rootScalable
	}
	u.regs.Write64(regRTADDR, address)
	if err := u.command(ctx, globalSRTP, true, globalSRTP); err != nil {
		return fmt.Errorf("set root table: %w", err)
	}
	// A new root table needs all caches dropped (section 6.6).
	if err := u.dropAll(ctx); err != nil {
		return err
	}
	if err := u.forgetDevices(func(at place) bool { return u.hasContext(at.source) }); err != nil {
		return err
	}
	u.walking.Store(true)
	if err := u.command(ctx, globalTE, true, globalTE); err != nil {
		return fmt.Errorf("enable translation: %w", err)
	}
	return u.releaseProtected(ctx)
}

// Disable switches translation off, and the queue with it: every DMA passes
// untranslated then. Attached devices stay attached for the next Enable. An
// error means that the unit may still translate. Disabling twice is harmless.
func (u *Unit) Disable(ctx context.Context) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return &OpError{Op: "disable", Err: ErrClosed}
	}
	if err := u.disable(ctx); err != nil {
		return &OpError{Op: "disable", Err: err}
	}
	return nil
}

// disable asks the unit for its state rather than believing u.enabled, so it
// also cleans up after an Enable that failed half way.
func (u *Unit) disable(ctx context.Context) error {
	if err := u.command(ctx, globalTE, false, 0); err != nil {
		return fmt.Errorf("disable translation: %w", err)
	}
	u.enabled = false
	u.off()
	u.maskFaults()
	if u.queue != nil {
		return u.queue.disable(ctx)
	}
	return nil
}

// off notes that the unit does not translate: it uses nothing of what it may
// have cached.
func (u *Unit) off() {
	u.turn.take()
	defer u.turn.leave()
	u.walking.Store(false)
	u.settle()
	for _, b := range u.bindings {
		b.doubted.Store(noDoubt)
	}
}

// command sets or clears one bit of GCMD_REG and waits until the same bit of
// GSTS_REG is want. One bit at a time, repeating the state that is on
// (11.4.4.1). Clearing what is clear writes nothing, unless the unit was told to set
// it and has not done so in time: it might later.
func (u *Unit) command(ctx context.Context, bit uint32, on bool, want uint32) error {
	u.turn.take()
	defer u.turn.leave()
	status := u.regs.Read32(regGSTS)
	if status == gone32 {
		return ErrGone
	}
	if !on && (status|u.told)&bit == 0 {
		return nil
	}
	cmd := status & globalState &^ bit
	if on {
		cmd |= bit
	}
	u.told = cmd
	u.regs.Write32(regGCMD, cmd)
	return u.wait32(ctx, "GSTS", regGSTS, bit, want)
}

// flushWriteBuffer makes stores to tables visible to a unit with write
// buffers (section 6.8). Invalidations do the same by themselves.
func (u *Unit) flushWriteBuffer(ctx context.Context) error {
	if !u.caps.WriteBufferFlush {
		return nil
	}
	if err := u.command(ctx, globalWBF, true, 0); err != nil {
		return fmt.Errorf("flush write buffer: %w", err)
	}
	return nil
}

// releaseProtected switches protected memory regions off: the tables protect
// from now on (11.4.8.1).
func (u *Unit) releaseProtected(ctx context.Context) error {
	if !u.caps.ProtectedMemory {
		return nil
	}
	v := u.regs.Read32(regPMEN)
	if v == gone32 {
		return ErrGone
	}
	u.regs.Write32(regPMEN, v&^protectEnable)
	if err := u.wait32(ctx, "PMEN", regPMEN, protectStatus, 0); err != nil {
		return fmt.Errorf("release protected memory: %w", err)
	}
	return nil
}

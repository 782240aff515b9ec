package edu

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"
)

const (
	gone32 = ^uint32(0)
	gone64 = ^uint64(0)
)

// ReadMemory lets the device read n bytes of memory at iova into its buffer at
// offset off, and waits until it has. n is at least 1, off+n at most
// MaxTransfer.
//
// The device does not tell whether its access was blocked; the IOMMU does.
//
// If ctx ends first the transfer goes on: others fail with ErrBusy until it is
// over, and the memory must stay mapped until Idle or Close has returned
// without an error.
func (d *Device) ReadMemory(ctx context.Context, iova uint64, off, n int) error {
	if err := d.transfer(ctx, 0, iova, off, n); err != nil {
		return &OpError{Op: "read memory", IOVA: iova, Offset: off, Size: n, Err: err}
	}
	return nil
}

// WriteMemory lets the device write n bytes from offset off of its buffer to
// memory at iova. Otherwise it is as ReadMemory.
func (d *Device) WriteMemory(ctx context.Context, iova uint64, off, n int) error {
	if err := d.transfer(ctx, commandToMemory, iova, off, n); err != nil {
		return &OpError{Op: "write memory", IOVA: iova, Offset: off, Size: n, Err: err}
	}
	return nil
}

// Idle waits until the device has finished the transfer that it was given, if any.
func (d *Device) Idle(ctx context.Context) error {
	err := d.begin()
	if err == nil {
		err = d.poll(ctx, d.done)
		d.mu.Unlock()
	}
	if err != nil {
		return &OpError{Op: "wait", Err: err}
	}
	return nil
}

func (d *Device) transfer(ctx context.Context, command, iova uint64, off, n int) error {
	if err := d.check(iova, off, n); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := d.begin(); err != nil {
		return err
	}
	defer d.mu.Unlock()
	// The device ignores a command that meets a running one: look first.
	if done, err := d.done(); err != nil {
		return err
	} else if !done {
		return ErrBusy
	}
	source, dest := iova, uint64(buffer+off)
	if command&commandToMemory != 0 {
		source, dest = dest, source
	}
	wait := func() error { return d.poll(ctx, d.done) }
	if d.opts.Interrupt != nil {
		command |= commandInterrupt
		wait = func() error { return d.interrupted(ctx) }
	}
	d.regs.Write64(regSource, source)
	d.regs.Write64(regDest, dest)
	d.regs.Write64(regCount, uint64(n))
	d.regs.Write64(regCommand, command|commandRun)
	return wait()
}

// check refuses what the device would get wrong.
func (d *Device) check(iova uint64, off, n int) error {
	if n <= 0 || off < 0 || off > MaxTransfer-n {
		return fmt.Errorf("%w: offset plus size must be 1 to %d", ErrBuffer, MaxTransfer)
	}
	last := iova + uint64(n-1)
	if last < iova || last > d.opts.DMAMask {
		return fmt.Errorf("%w %#x", ErrMask, d.opts.DMAMask)
	}
	return nil
}

// done says whether no transfer is under way.
func (d *Device) done() (bool, error) {
	v := d.regs.Read64(regCommand)
	if v == gone64 {
		return false, ErrGone
	}
	return v&commandRun == 0, nil
}

// Pauses of a poll: some rounds yield, then the pause doubles up to the
// longest.
const (
	yieldRounds = 32
	shortPause  = 20 * time.Microsecond
	longPause   = time.Millisecond
)

// poll waits until done says so.
func (d *Device) poll(ctx context.Context, done func() (bool, error)) error {
	pause := shortPause
	for round := 0; ; round++ {
		if ok, err := done(); ok || err != nil {
			return err
		}
		if err := d.ended(ctx); err != nil {
			return err
		}
		if round < yieldRounds {
			runtime.Gosched()
			continue
		}
		time.Sleep(pause)
		pause = min(2*pause, longPause)
	}
}

// ended says why to stop waiting, if there is a reason.
func (d *Device) ended(ctx context.Context) error {
	if d.closing.Err() != nil {
		return ErrClosed
	}
	return ctx.Err()
}

// interruptSlice is how long to wait for an interrupt before looking whether
// the device is still there.
const interruptSlice = 250 * time.Millisecond

// interrupted waits for the interrupt of the running transfer. Interrupts of
// earlier transfers, whose callers did not wait, are acknowledged and passed
// over.
func (d *Device) interrupted(ctx context.Context) error {
	for late := false; ; {
		err := d.waitSlice(ctx)
		if stop := d.ended(ctx); stop != nil {
			return stop
		}
		timeout := errors.Is(err, context.DeadlineExceeded)
		if err != nil && !timeout {
			return err
		}
		if err == nil {
			d.acknowledge()
		}
		done, gone := d.done()
		switch {
		case gone != nil:
			return gone
		case done && err == nil:
			return nil
		case done && late:
			return ErrNoInterrupt
		case done:
			late = true // it may just be arriving
		}
	}
}

func (d *Device) waitSlice(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, interruptSlice)
	defer cancel()
	defer context.AfterFunc(d.closing, cancel)()
	return d.opts.Interrupt.Wait(ctx)
}

// acknowledge clears the causes of the interrupt in the device.
func (d *Device) acknowledge() {
	if v := d.regs.Read32(regIRQStatus); v != 0 && v != gone32 {
		d.regs.Write32(regIRQAck, v)
	}
}

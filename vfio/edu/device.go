package edu

import (
	"context"
	"fmt"
	"sync"

	"gommu/pci"
)

// The ids of the device.
const (
	VendorID = 0x1234
	DeviceID = 0x11e8
)

const (
	// BufferSize is the size of the device's buffer in bytes.
	BufferSize = 4096
	// MaxTransfer is the most that one transfer moves. Offset and length
	// together are at most this: QEMU 7.2 ends when a transfer reaches the
	// buffer's last byte.
	MaxTransfer = BufferSize - 1
	// DefaultDMAMask is the mask of a device that was started without
	// dma_mask: 28 bits.
	DefaultDMAMask = 1<<28 - 1
)

// Offsets of registers in BAR 0. Below 0x80 accesses are 4 bytes, above 4 or
// 8; addresses need 8.
const (
	regID        = 0x00
	regAlive     = 0x04
	regFactorial = 0x08
	regStatus    = 0x20
	regIRQStatus = 0x24
	regIRQAck    = 0x64
	regSource    = 0x80
	regDest      = 0x88
	regCount     = 0x90
	regCommand   = 0x98

	minBAR = regCommand + 8

	buffer = 0x40000 // where transfers name the device's buffer

	idMask, idValue = 0xffff, 0x00ed // the version is above

	statusComputing = 1 << 0

	commandRun       = 1 << 0
	commandToMemory  = 1 << 1
	commandInterrupt = 1 << 2
)

// An Interrupt delivers the device's interrupt (MSI or the pin).
type Interrupt interface {
	// Wait returns nil when an interrupt has arrived since the last Wait, or
	// ctx.Err(). Before it is called again the device's cause has been
	// acknowledged, so a pin may be unmasked when it begins.
	Wait(ctx context.Context) error
}

// Options configure a Device. The zero value works.
type Options struct {
	// DMAMask is the device's DMA mask, which it does not tell: the value of
	// its dma_mask property. 0 is DefaultDMAMask.
	DMAMask uint64
	// Interrupt, if set, ends transfers. Without it the driver polls.
	Interrupt Interrupt
}

// A Device is an edu device that this process drives.
type Device struct {
	f    pci.Function
	regs pci.BAR
	opts Options

	mu     sync.Mutex // held during an operation, never waited for
	closed bool       // guarded by mu

	closing context.Context // ends when Close begins
	stop    context.CancelFunc
}

// Open checks that f is an edu device and that it works, and switches its bus
// mastering on. After an error bus mastering is as it was.
func Open(f pci.Function, opts Options) (*Device, error) {
	if opts.DMAMask == 0 {
		opts.DMAMask = DefaultDMAMask
	}
	d := &Device{f: f, opts: opts}
	if err := d.open(); err != nil {
		return nil, &OpError{Op: "open", Err: fmt.Errorf("%v: %w", f.Address(), err)}
	}
	d.closing, d.stop = context.WithCancel(context.Background())
	return d, nil
}

func (d *Device) open() error {
	ids, err := pci.ReadIDs(d.f.Config())
	if err != nil {
		return err
	}
	if ids.Vendor != VendorID || ids.Device != DeviceID {
		return fmt.Errorf("%w: it is %04x:%04x, not %04x:%04x", ErrNotEdu, ids.Vendor, ids.Device, VendorID, DeviceID)
	}
	if _, err := pci.SetMemoryDecode(d.f.Config(), true); err != nil {
		return err
	}
	if d.regs, err = d.f.BAR(0); err != nil {
		return err
	}
	if d.regs.Size() < minBAR {
		return fmt.Errorf("%w: BAR 0 has %d bytes", ErrNotEdu, d.regs.Size())
	}
	if err := d.alive(); err != nil {
		return err
	}
	_, err = pci.SetBusMaster(d.f.Config(), true)
	return err
}

// alive reads the identification and checks that the liveness register
// inverts what is written to it.
func (d *Device) alive() error {
	switch id := d.regs.Read32(regID); {
	case id == gone32:
		return ErrGone
	case id&idMask != idValue:
		return fmt.Errorf("%w: its identification is %#08x", ErrNotEdu, id)
	}
	for _, v := range []uint32{0x12345678, 0xedcba987} {
		d.regs.Write32(regAlive, v)
		if got := d.regs.Read32(regAlive); got != ^v {
			return fmt.Errorf("%w: %#08x came back as %#08x", ErrNotAlive, v, got)
		}
	}
	return nil
}

// Close switches the function's bus mastering off: when it has returned, the device
// touches no memory any more, even if a transfer was under way. The function stays
// open. Twice is harmless.
func (d *Device) Close() error {
	d.stop() // ends a transfer of another goroutine
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	if d.regs.Read32(regID) == gone32 {
		return nil // what is gone masters no bus
	}
	if _, err := pci.SetBusMaster(d.f.Config(), false); err != nil {
		return &OpError{Op: "close", Err: err}
	}
	return nil
}

// begin starts an operation. It fails if another one is under way.
func (d *Device) begin() error {
	if !d.mu.TryLock() {
		return ErrBusy
	}
	if d.closed {
		d.mu.Unlock()
		return ErrClosed
	}
	return nil
}

// Factorial lets the device compute n! modulo 2^32.
func (d *Device) Factorial(ctx context.Context, n uint32) (uint32, error) {
	v, err := d.factorial(ctx, n)
	if err != nil {
		return 0, &OpError{Op: "factorial", Err: err}
	}
	return v, nil
}

func (d *Device) factorial(ctx context.Context, n uint32) (uint32, error) {
	if err := d.begin(); err != nil {
		return 0, err
	}
	defer d.mu.Unlock()
	d.regs.Write32(regFactorial, n)
	err := d.poll(ctx, func() (bool, error) {
		v := d.regs.Read32(regStatus)
		if v == gone32 {
			return false, ErrGone
		}
		return v&statusComputing == 0, nil
	})
	if err != nil {
		return 0, err
	}
	v := d.regs.Read32(regFactorial)
	if v == gone32 { // no factorial is
		return 0, ErrGone
	}
	return v, nil
}

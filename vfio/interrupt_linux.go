package vfio

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"
)

// IRQKind is a kind of interrupt.
type IRQKind uint32

// The kinds of a PCI function (VFIO_PCI_INTX_IRQ_INDEX and following). Only one is enabled at a time.
const (
	INTx IRQKind = iota
	MSI
	MSIX
)

// String is the kind's name.
func (k IRQKind) String() string {
	switch k {
	case INTx:
		return "INTx"
	case MSI:
		return "MSI"
	case MSIX:
		return "MSI-X"
	}
	return fmt.Sprintf("interrupt kind %d", uint32(k))
}

// An Interrupt is one enabled interrupt, delivered through an eventfd that Go's poller watches.
type Interrupt struct {
	d     *Device
	kind  IRQKind
	index uint32
	f     *os.File
	count atomic.Uint64
	turn  chan struct{} // holds a token while nobody waits
	fired atomic.Bool   // Wait has reported it, and nobody has masked or unmasked it since
}

// IRQInfo asks how many interrupts of a kind the device has.
func (d *Device) IRQInfo(kind IRQKind) (IRQInfo, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return IRQInfo{}, d.error("ask about "+kind.String()+" of", ErrClosed)
	}
	i, err := d.irqInfo(kind)
	if err != nil {
		return IRQInfo{}, d.error("ask about "+kind.String()+" of", err)
	}
	return i, nil
}

func (d *Device) irqInfo(kind IRQKind) (IRQInfo, error) {
	i := irqInfo{argsz: uint32(sizeOf[irqInfo]()), index: uint32(kind)}
	if _, err := d.sys.ioctlPtr(d.fd, ioctlDeviceGetIRQ, bytesOf(&i)); err != nil {
		return IRQInfo{}, err
	}
	if i.count > 2048 { // MSI-X ends there
		return IRQInfo{}, fmt.Errorf("%w: %d interrupts", ErrBadInfo, i.count)
	}
	return IRQInfo{
		Count: int(i.count), EventFD: i.flags&irqEventFD != 0, Maskable: i.flags&irqMaskable != 0,
		Automasked: i.flags&irqAutomasked != 0, NoResize: i.flags&irqNoResize != 0,
	}, nil
}

// EnableIRQ enables the first n interrupts of a kind. MSI and MSI-X reach the host only while the device may master
// the bus (pci.SetBusMaster). Errors: ErrNoIRQ (fewer than n), ErrIRQEnabled, ErrClosed.
func (d *Device) EnableIRQ(kind IRQKind, n int) ([]*Interrupt, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	fail := func(err error) ([]*Interrupt, error) {
		return nil, d.error(fmt.Sprintf("enable %d %s of", n, kind), err)
	}
	if d.closed {
		return fail(ErrClosed)
	}
	for k := range d.irqs {
		return fail(fmt.Errorf("%w: %s", ErrIRQEnabled, k))
	}
	info, err := d.irqInfo(kind)
	if err != nil {
		return fail(err)
	}
	if n < 1 || n > info.Count || !info.EventFD {
		return fail(fmt.Errorf("%w: it has %d", ErrNoIRQ, info.Count))
	}
	irqs, data, err := d.eventfds(kind, n)
	if err == nil {
		err = d.enable(kind, n, data)
	}
	if err != nil {
		for _, i := range irqs {
			err = errors.Join(err, i.f.Close())
		}
		return fail(err)
	}
	d.irqs[kind] = irqs
	return irqs, nil
}

// eventfds makes n interrupts, and the list of their files for the kernel. After an error it returns those made.
func (d *Device) eventfds(kind IRQKind, n int) (irqs []*Interrupt, data []byte, err error) {
	for k := range n {
		fd, err := d.sys.eventfd()
		if err != nil {
			return irqs, nil, fmt.Errorf("eventfd: %w", err)
		}
		i := &Interrupt{d: d, kind: kind, index: uint32(k), f: os.NewFile(uintptr(fd), "eventfd"), turn: make(chan struct{}, 1)}
		i.turn <- struct{}{}
		irqs = append(irqs, i)
		data = binary.NativeEndian.AppendUint32(data, uint32(fd))
	}
	return irqs, data, nil
}

// enable gives the eventfds to the kernel.
func (d *Device) enable(kind IRQKind, n int, data []byte) error {
	r, err := d.setIRQs(kind, irqDataEventFD|irqActionTrigger, 0, n, data)
	if err == nil && r > 0 {
		// The host has fewer vectors to give; nothing was enabled.
		err = fmt.Errorf("%w: the host can give %d", ErrNoIRQ, r)
	}
	return err
}

// setIRQs makes a VFIO_DEVICE_SET_IRQS.
func (d *Device) setIRQs(kind IRQKind, flags uint32, start, count int, data []byte) (int, error) {
	set := irqSet{argsz: uint32(sizeOf[irqSet]() + len(data)), flags: flags, index: uint32(kind), start: uint32(start), count: uint32(count)}
	return d.sys.ioctlPtr(d.fd, ioctlDeviceSetIRQs, append(append([]byte{}, bytesOf(&set)...), data...))
}

// DisableIRQ disables all interrupts of a kind. Who waits for one gets ErrClosed. It is harmless if none is enabled.
func (d *Device) DisableIRQ(kind IRQKind) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.disable(kind); err != nil {
		return d.error("disable "+kind.String()+" of", err)
	}
	return nil
}

func (d *Device) disable(kind IRQKind) error {
	irqs, ok := d.irqs[kind]
	if !ok {
		return nil
	}
	delete(d.irqs, kind)
	_, err := d.setIRQs(kind, irqDataNone|irqActionTrigger, 0, 0, nil)
	for _, i := range irqs {
		err = errors.Join(err, i.f.Close())
	}
	return err
}

// Wait waits until the interrupt has fired at least once since the last Wait. It parks the goroutine, not a
// thread. It returns ctx.Err() when ctx ends, and ErrClosed when the interrupt is disabled. Several
// goroutines may wait; one of them gets each interrupt.
//
// The kernel masks an INTx when it fires. The next Wait lets it through again first, so acknowledge its cause in the
// device before: one that is still raised fires at once. This makes one waiter the right number for an INTx.
func (i *Interrupt) Wait(ctx context.Context) error {
	select {
	case <-i.turn:
		defer func() { i.turn <- struct{}{} }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if i.fired.Load() {
		if err := i.Unmask(); err != nil {
			return err
		}
	}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		i.f.SetReadDeadline(time.Unix(1, 0)) // an error means that the file is closed, which the read says too
	})
	var b [8]byte
	_, err := i.f.Read(b[:])
	if !stop() {
		<-ended
		i.f.SetReadDeadline(time.Time{})
	}
	if err == nil {
		i.count.Add(binary.NativeEndian.Uint64(b[:]))
		i.fired.Store(i.kind == INTx)
		return nil
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return ctx.Err()
	}
	if errors.Is(err, os.ErrClosed) {
		err = ErrClosed
	}
	return i.d.error("wait for "+i.kind.String()+" of", err)
}

// Count is how often the interrupt has fired, as far as Wait has seen.
func (i *Interrupt) Count() uint64 { return i.count.Load() }

// Index is the interrupt's number within its kind.
func (i *Interrupt) Index() int { return int(i.index) }

// Unmask lets an INTx through again, after Mask or before the next Wait does it. MSI and MSI-X have no mask:
// EINVAL or ENOTTY.
func (i *Interrupt) Unmask() error { return i.act("unmask", irqActionUnmask) }

// Mask holds an INTx back until Unmask; Wait does not let it through.
func (i *Interrupt) Mask() error { return i.act("mask", irqActionMask) }

// Trigger makes the kernel deliver the interrupt as if the device had raised it, to test the way from there to Wait.
// Unlike the device's own it leaves an INTx unmasked.
func (i *Interrupt) Trigger() error { return i.act("trigger", irqActionTrigger) }

// act makes one action without data.
func (i *Interrupt) act(op string, action uint32) error {
	d := i.d
	d.mu.Lock()
	defer d.mu.Unlock()
	err := ErrClosed
	if irqs := d.irqs[i.kind]; int(i.index) < len(irqs) && irqs[i.index] == i {
		_, err = d.setIRQs(i.kind, irqDataNone|action, int(i.index), 1, nil)
	}
	if err != nil {
		return d.error(op+" "+i.kind.String()+" of", err)
	}
	if action != irqActionTrigger {
		i.fired.Store(false)
	}
	return nil
}

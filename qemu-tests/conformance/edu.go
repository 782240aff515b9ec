package conformance

import (
	"context"
	"errors"

	"gommu/pci"
	"gommu/vfio/edu"
)

// EduDevice is an edu device as cases use it. It does not own it.
func EduDevice(d *edu.Device, source uint16) Device { return eduDevice{d, source} }

type eduDevice struct {
	d      *edu.Device
	source uint16
}

func (d eduDevice) Source() uint16 { return d.source }

func (d eduDevice) Read(ctx context.Context, iova uint64, n int) error {
	return d.d.ReadMemory(ctx, iova, 0, n)
}

func (d eduDevice) Write(ctx context.Context, iova uint64, n int) error {
	return d.d.WriteMemory(ctx, iova, 0, n)
}

// EduInterrupts is EduDevice for a function whose MSI nobody else uses.
func EduInterrupts(d *edu.Device, f pci.Function) (InterruptDevice, error) {
	regs, err := f.BAR(0)
	if err != nil {
		return nil, err
	}
	return eduInterrupts{eduDevice{d, f.Address().RequesterID()}, f.Config(), regs}, nil
}

type eduInterrupts struct {
	eduDevice
	cfg  pci.Config
	regs pci.BAR
}

// Interrupt aims the device's MSI, has the device raise it, and switches MSI off
// again.
func (d eduInterrupts) Interrupt(_ context.Context, address uint64, data uint32) error {
	const raise, acknowledge, cause = 0x60, 0x64, 1 // registers: QEMU's docs/specs/edu.rst
	const control, low, high, message, enable = 2, 4, 8, 12, 1
	c, err := pci.FindCapability(d.cfg, pci.CapMSI, false)
	if err != nil {
		return err
	}
	err = errors.Join(
		d.cfg.Write(c.Offset+low, 4, uint32(address)),
		d.cfg.Write(c.Offset+high, 4, uint32(address>>32)),
		d.cfg.Write(c.Offset+message, 2, data&0xffff),
		d.cfg.Write(c.Offset+control, 2, enable))
	if err != nil {
		return err
	}
	d.regs.Write32(raise, cause)
	d.regs.Write32(acknowledge, cause)
	return d.cfg.Write(c.Offset+control, 2, 0)
}

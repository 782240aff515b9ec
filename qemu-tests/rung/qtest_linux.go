package rung

import (
	"context"
	"fmt"

	"gommu/pagetable"
	"gommu/pci"
	"gommu/qemu-tests/provision"
	"gommu/qemu-tests/qtest"
)

// QtestConfig is a machine without a guest whose unit has a mode and a variant, or
// an Unavailable. Callers add devices and more.
func QtestConfig(q provision.QEMU, m Mode, v Variant, memory int) (qtest.Config, error) {
	properties, err := QEMUUnit(q.Version, m, v)
	return qtest.Config{QEMU: q.Path, Memory: int64(memory), IOMMU: properties, AddressWidth: v.width()}, err
}

// qtestLow is where memory begins that is for us: below are holes.
const qtestLow = 4 << 20

// openQtest starts QEMU with devices.
func openQtest(ctx context.Context, m *Machine, o Options) error {
	if o.QEMU.Path == "" {
		qemus, err := provision.FindQEMU(provision.Options{NoKernel: true})
		if err != nil {
			return err
		}
		o.QEMU = qemus[0]
	}
	m.QEMU = o.QEMU.Version
	c, err := QtestConfig(o.QEMU, o.Mode, o.Variant, qtestLow+o.Tables+o.Memory)
	if err != nil {
		return err
	}
	c.Devices, c.BeforeRequest = eduDevices(o.Devices), o.BeforeRequest
	machine, err := qtest.Start(ctx, c)
	if err != nil {
		return err
	}
	m.later(machine.Close)
	m.later(func() error { // what stopped it: other errors follow from that
		if err := machine.Err(); err != nil {
			return fmt.Errorf("the machine stopped: %w", err)
		}
		return nil
	})
	ram := machine.RAM()[qtestLow:]
	m.registers = machine.IOMMU()
	m.tables = []pagetable.Segment{{Bus: qtestLow, Mem: ram[:o.Tables]}}
	if err := m.segments(pagetable.Segment{Bus: uint64(qtestLow + o.Tables), Mem: ram[o.Tables:]}); err != nil {
		return err
	}
	for i := range o.Devices {
		f, err := machine.PCI(pci.Address{Device: uint8(3 + i)})
		if err != nil {
			return err
		}
		m.later(f.Close)
		m.Devices = append(m.Devices, Device{Function: f, Requester: f.Address().RequesterID(), Mask: ^uint64(0)})
	}
	return nil
}

package rung

import (
	"context"
	"fmt"

	"gommu/iommu"
	"gommu/pci"
	"gommu/vfio"
)

// openVFIO takes edu devices over from the kernel, into one container.
func openVFIO(_ context.Context, m *Machine, o Options) error {
	all, err := eduAddresses(o)
	if err != nil {
		return err
	}
	mem := &iommu.Pages{}
	m.Memory = mem
	m.later(mem.Close)
	if m.Container, err = vfio.OpenContainer(vfio.Options{}); err != nil {
		return err
	}
	m.later(m.Container.Close)
	m.Mapper = m.Container.Mapper()
	for _, at := range all {
		if err := m.openVFIODevice(at, o); err != nil {
			return err
		}
	}
	return nil
}

// openVFIODevice binds a function and opens it with its interrupt.
func (m *Machine) openVFIODevice(at pci.Address, o Options) error {
	info, err := pci.Sysfs{}.GroupOf(at)
	if err != nil {
		return err
	}
	bound, err := pci.Bind(at, "vfio-pci")
	if err != nil {
		return err
	}
	// The container has to be closed before the function is given back.
	m.closers = append([]func() error{bound.Undo}, m.closers...)
	g, err := vfio.OpenGroup(info.ID, vfio.Options{})
	if err != nil {
		return err
	}
	if err := m.Container.Attach(g); err != nil {
		return fmt.Errorf("%w (closing: %v)", err, g.Close())
	}
	d, err := g.Device(at)
	if err != nil {
		return err
	}
	m.later(d.Close)
	irqs, err := d.EnableIRQ(vfio.MSI, 1)
	if err != nil {
		return err
	}
	mask := o.Mask
	if mask == 0 {
		mask = ^uint64(0)
	}
	m.Devices = append(m.Devices, Device{Function: d, Requester: at.RequesterID(), Mask: mask, Interrupt: irqs[0]})
	return nil
}

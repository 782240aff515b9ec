package rung

import (
	"context"

	"gommu/iommu/devmem"
	"gommu/pagetable"
	"gommu/pci"
)

// UnitAddress is where QEMU's unit has its registers.
const UnitAddress = 0xfed90000

// UnitCmdline is what a kernel is booted with so that a program in it can have the
// unit: it drives neither that nor interrupts through it, and lets go of
// registers.
const UnitCmdline = "intel_iommu=off intremap=off iomem=relaxed"

// openDevmem takes the unit and the devices of the guest that this process runs in.
func openDevmem(ctx context.Context, m *Machine, o Options) error {
	regs, err := devmem.Open(UnitAddress, devmem.Options{})
	if err != nil {
		return err
	}
	m.later(regs.Close)
	m.registers = regs
	if m.tables, err = m.hugepages(ctx, o.Tables); err != nil {
		return err
	}
	data, err := m.hugepages(ctx, o.Memory)
	if err != nil {
		return err
	}
	if err := m.segments(data...); err != nil {
		return err
	}
	all, err := eduAddresses(o)
	if err != nil {
		return err
	}
	for _, at := range all {
		f, err := pci.Open(at)
		if err != nil {
			return err
		}
		m.later(f.Close)
		m.Devices = append(m.Devices, Device{Function: f, Requester: at.RequesterID(), Mask: ^uint64(0)})
	}
	return nil
}

// hugepages takes memory that must not have moved at the end.
func (m *Machine) hugepages(ctx context.Context, size int) ([]pagetable.Segment, error) {
	mem, err := devmem.NewMemory(ctx, size)
	if err != nil {
		return nil, err
	}
	m.later(mem.Close)
	m.later(mem.Check)
	return mem.Segments(), nil
}

package conformance

import (
	"context"
	"errors"
	"fmt"

	"gommu/iommu/devmem"
	"gommu/iommu/vtd"
	"gommu/pagetable"
	"gommu/pci"
	"gommu/qemu-tests/rung"
	"gommu/vfio/edu"
)

const (
	devmemTable = 4 << 20
	devmemRoom  = 4 << 20
)

// DevmemCmdline is what a kernel is booted with for DevmemPlaces; it keeps 24 MiB of hugepages.
const DevmemCmdline = rung.UnitCmdline + " hugepages=12"

// DevmemPlaces are the modes of the unit of the QEMU that this process runs in: a
// guest whose kernel was booted with DevmemCmdline and that has two edu devices.
// version is QEMU's. Their rigs open the variant that the unit is, see CasesFor.
func DevmemPlaces(version string) ([]Place, Variant, error) {
	regs, err := devmem.Open(rung.UnitAddress, devmem.Options{})
	if err != nil {
		return nil, Variant{}, err
	}
	caps := vtd.DecodeCapabilities(regs.Read32(0x00), regs.Read64(0x08), regs.Read64(0x10))
	if err := regs.Close(); err != nil {
		return nil, Variant{}, err
	}
	is := Variant{CachingMode: caps.CachingMode, Narrow: caps.MaxAddressWidth <= 39, WriteBuffer: caps.WriteBufferFlush}
	var all []Place
	for _, m := range Modes {
		can := caps.Usable(m.Unit())
		if m.Stage() == pagetable.SecondStage && len(can.SecondStage) == 0 || m.Stage() == pagetable.FirstStage && len(can.FirstStage) == 0 {
			continue
		}
		all = append(all, Place{Rung: "devmem", Mode: m, QEMU: version, Open: func(ctx context.Context, v Variant) (Rig, error) {
			if v != is {
				return nil, Unavailable(fmt.Sprintf("the unit is %+v, not %+v", is, v))
			}
			return openDevmem(ctx, &devmemRig{mode: m, version: version, scalable: caps.ScalableMode})
		}})
	}
	return all, is, nil
}

// devmemRig is this machine's unit, with memory in hugepages.
type devmemRig struct {
	mode               Mode
	version            string
	scalable           bool // the unit has scalable mode, whether it is used or not
	regs               *devmem.Registers
	tables, data, room *devmem.Memory
	devices            [2]Device
	closers            []func() error
}

func openDevmem(ctx context.Context, r *devmemRig) (*devmemRig, error) {
	if err := r.open(ctx); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

func (r *devmemRig) open(ctx context.Context) error {
	var err error
	if r.regs, err = devmem.Open(rung.UnitAddress, devmem.Options{}); err != nil {
		return err
	}
	r.closers = append(r.closers, r.regs.Close)
	for _, m := range []struct {
		mem  **devmem.Memory
		size int
	}{{&r.tables, devmemTable}, {&r.data, size2M}, {&r.room, devmemRoom}} {
		if *m.mem, err = devmem.NewMemory(ctx, m.size); err != nil {
			return err
		}
		r.closers = append(r.closers, (*m.mem).Close, (*m.mem).Check)
	}
	return r.openDevices()
}

func (r *devmemRig) openDevices() error {
	all, err := rung.EduFunctions()
	if err != nil {
		return err
	}
	if len(all) < len(r.devices) {
		return fmt.Errorf("this machine has %d edu devices (1234:11e8), want %d", len(all), len(r.devices))
	}
	for i := range r.devices {
		f, err := pci.Open(all[i].Address)
		if err != nil {
			return err
		}
		r.closers = append(r.closers, f.Close)
		d, err := edu.Open(f, edu.Options{DMAMask: ^uint64(0)})
		if err != nil {
			return err
		}
		r.closers = append(r.closers, d.Close)
		r.devices[i] = EduDevice(d, f.Address().RequesterID())
	}
	return nil
}

func (r *devmemRig) Registers() vtd.Registers    { return r.regs }
func (r *devmemRig) Tables() []pagetable.Segment { return r.tables.Segments() }
func (r *devmemRig) Data() pagetable.Segment     { return r.data.Segments()[0] }
func (r *devmemRig) Room() []pagetable.Segment   { return r.room.Segments() }
func (r *devmemRig) Devices() [2]Device          { return r.devices }
func (r *devmemRig) Nowhere() uint64             { return 1 << 37 }

func (r *devmemRig) Traits() Traits {
	t := QEMUTraits(r.version, r.mode)
	t.Lacks[InterruptFault] = "interrupts belong to the guest's kernel"
	t.SlowDMA = true
	if r.mode == Legacy && r.scalable {
		record := t.Record
		t.Record = func(reason vtd.Reason, write bool) (vtd.Reason, string) {
			if reason == 0x0e {
				return 0x87, "" // QEMU goes by what the unit has, not by the root table's mode
			}
			return record(reason, write)
		}
	}
	return t
}

// Close gives everything back, and complains of memory that has moved.
func (r *devmemRig) Close() error {
	var errs []error
	for i := len(r.closers) - 1; i >= 0; i-- {
		errs = append(errs, r.closers[i]())
	}
	r.closers = nil
	return errors.Join(errs...)
}

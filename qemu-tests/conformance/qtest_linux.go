package conformance

import (
	"context"
	"encoding/binary"
	"errors"
	"os"

	"gommu/iommu/vtd"
	"gommu/pagetable"
	"gommu/pci"
	"gommu/qemu-tests/provision"
	"gommu/qemu-tests/qtest"
	"gommu/qemu-tests/rung"
	"gommu/vfio/edu"
)

// Where things are in the machine's RAM.
const (
	qtestMemory = 20 << 20
	qtestTables = 4 << 20
	qtestData   = 8 << 20
)

// QtestPlaces are QEMUs without a guest, each in every mode.
func QtestPlaces(qemus []provision.QEMU) []Place {
	var all []Place
	for _, q := range qemus {
		for _, m := range Modes {
			all = append(all, Place{Rung: "qtest", Mode: m, QEMU: q.Version, Open: func(ctx context.Context, v Variant) (Rig, error) {
				return openQtest(ctx, q, m, v)
			}})
		}
	}
	return all
}

// qtestRig is a machine with two edu devices.
type qtestRig struct {
	m         *qtest.Machine
	mode      Mode
	version   string
	devices   [2]Device
	functions [2]pci.Function
	closers   []func() error
}

func openQtest(ctx context.Context, q provision.QEMU, m Mode, v Variant) (*qtestRig, error) {
	c, err := rung.QtestConfig(q, m, v, qtestMemory)
	if err != nil {
		return nil, err
	}
	rom, remove, err := romFile()
	if err != nil {
		return nil, err
	}
	defer remove()
	c.Devices = []string{"edu,addr=0x3,dma_mask=0xffffffffffffffff,romfile=" + rom, "edu,addr=0x4,dma_mask=0xffffffffffffffff"}
	r := &qtestRig{mode: m, version: q.Version}
	if r.m, err = qtest.Start(ctx, c); err != nil {
		return nil, err
	}
	r.closers = append(r.closers, r.m.Close)
	for i := range r.devices {
		if err := r.openDevice(i); err != nil {
			return nil, errors.Join(err, r.Close())
		}
	}
	return r, nil
}

func (r *qtestRig) openDevice(i int) error {
	f, err := r.m.PCI(pci.Address{Device: uint8(3 + i)})
	if err != nil {
		return err
	}
	r.closers = append(r.closers, f.Close)
	d, err := edu.Open(f, edu.Options{DMAMask: ^uint64(0)})
	if err != nil {
		return err
	}
	r.closers = append(r.closers, d.Close)
	r.functions[i] = f
	r.devices[i], err = EduInterrupts(d, f)
	return err
}

func (r *qtestRig) Registers() vtd.Registers { return r.m.IOMMU() }
func (r *qtestRig) Devices() [2]Device       { return r.devices }
func (r *qtestRig) Nowhere() uint64          { return 1 << 37 }
func (r *qtestRig) Traits() Traits           { return QEMUTraits(r.version, r.mode) }

func (r *qtestRig) Tables() []pagetable.Segment {
	return []pagetable.Segment{{Bus: qtestTables, Mem: r.m.RAM()[qtestTables:qtestData]}}
}

func (r *qtestRig) Data() pagetable.Segment {
	return pagetable.Segment{Bus: qtestData, Mem: r.m.RAM()[qtestData:][:size2M]}
}

func (r *qtestRig) Room() []pagetable.Segment {
	const at = qtestData + size2M
	return []pagetable.Segment{{Bus: at, Mem: r.m.RAM()[at:]}}
}

// ReadOnlyTable is the first device's option ROM, which holds the table.
func (r *qtestRig) ReadOnlyTable() (uint64, error) {
	const register, address, enable = 0x30, 0xd000_0000, 1
	return address, r.functions[0].Config().Write(register, 4, address|enable)
}

// romFile makes a file for an option ROM: a table of first-stage leaves that all
// lead to the first data page, with A clear.
func romFile() (name string, remove func(), err error) {
	const leaf = qtestData | accessBits
	rom := make([]byte, 0, page)
	for range page / 8 {
		rom = binary.LittleEndian.AppendUint64(rom, leaf)
	}
	f, err := os.CreateTemp("", "gommu-rom-")
	if err != nil {
		return "", nil, err
	}
	remove = func() { os.Remove(f.Name()) }
	_, err = f.Write(rom)
	if err = errors.Join(err, f.Close()); err != nil {
		remove()
	}
	return f.Name(), remove, err
}

// Close ends the machine and says if it had ended by itself.
func (r *qtestRig) Close() error {
	var errs []error
	for i := len(r.closers) - 1; i >= 0; i-- {
		errs = append(errs, r.closers[i]())
	}
	r.closers = nil
	return errors.Join(errs...)
}

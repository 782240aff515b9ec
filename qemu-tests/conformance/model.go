package conformance

import (
	"context"
	"errors"

	"gommu/iommu/model"
	"gommu/iommu/vtd"
	"gommu/pagetable"
	"gommu/qemu-tests/rung"
)

// Where things are in the model's memory.
const (
	modelBase   = 64 << 20 // bus address of the first byte
	modelTables = 4 << 20
	modelData   = 2 << 20
	modelRoom   = 6 << 20 // 4 MiB of it are aligned
)

// ModelPlaces are the model in every mode: a unit that does not snoop and whose
// flushes take effect in any order.
func ModelPlaces() []Place {
	var all []Place
	for _, m := range Modes {
		all = append(all, Place{Rung: "model", Mode: m, Open: func(_ context.Context, v Variant) (Rig, error) {
			return openModel(m, v)
		}})
	}
	return all
}

// modelRig is the model with its memory.
type modelRig struct {
	*rung.Model
	ram     []byte
	devices [2]Device
}

func openModel(m Mode, v Variant) (*modelRig, error) {
	r := &modelRig{ram: make([]byte, modelTables+modelData+modelRoom)}
	var err error
	if r.Model, err = rung.NewModel(m, v, r.ram, modelBase); err != nil {
		return nil, err
	}
	r.devices = [2]Device{&modelDevice{r.Device(3 << 3), 3 << 3, [MaxTransfer]byte{}}, &modelDevice{r.Device(4 << 3), 4 << 3, [MaxTransfer]byte{}}}
	return r, nil
}

func (r *modelRig) Registers() vtd.Registers { return r.Model }
func (r *modelRig) Devices() [2]Device       { return r.devices }
func (r *modelRig) Nowhere() uint64          { return 1 << 37 }

func (r *modelRig) Traits() Traits {
	return Traits{Lacks: map[Feature]string{InterruptFault: "the model remaps no interrupts"}}
}

func (r *modelRig) Tables() []pagetable.Segment {
	return []pagetable.Segment{{Bus: modelBase, Mem: r.ram[:modelTables]}}
}

func (r *modelRig) Data() pagetable.Segment {
	return pagetable.Segment{Bus: modelBase + modelTables, Mem: r.ram[modelTables:][:modelData]}
}

func (r *modelRig) Room() []pagetable.Segment {
	const at = modelTables + modelData
	return []pagetable.Segment{{Bus: modelBase + at, Mem: r.ram[at:]}}
}

// A modelDevice is a device of the model with a buffer. The model's DMA tells
// what was blocked, as a device does not.
type modelDevice struct {
	d      *model.Device
	source uint16
	buf    [MaxTransfer]byte
}

func (d *modelDevice) Source() uint16 { return d.source }

func (d *modelDevice) Read(_ context.Context, iova uint64, n int) error {
	return unlessBlocked(d.d.Read(iova, d.buf[:n]))
}

func (d *modelDevice) Write(_ context.Context, iova uint64, n int) error {
	return unlessBlocked(d.d.Write(iova, d.buf[:n]))
}

func (d *modelDevice) ReadPASID(_ context.Context, pasid uint32, iova uint64, n int) error {
	return unlessBlocked(d.d.ReadPASID(pasid, iova, d.buf[:n]))
}

func (d *modelDevice) WritePASID(_ context.Context, pasid uint32, iova uint64, n int) error {
	return unlessBlocked(d.d.WritePASID(pasid, iova, d.buf[:n]))
}

func unlessBlocked(err error) error {
	if errors.Is(err, model.ErrBlocked) {
		return nil
	}
	return err
}

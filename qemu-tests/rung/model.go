package rung

import (
	"context"
	"errors"
	"reflect"

	"gommu/internal/cacheline"
	"gommu/iommu/model"
	"gommu/pagetable"
	"gommu/pci"
)

// A Model is a strict unit in this process: unless it is a coherent one it does not snoop, its
// flushes take effect in any order, and it is told of every one.
type Model struct {
	*model.Unit
	stop []func()
}

// NewModel returns a unit for memory at a bus address.
func NewModel(m Mode, v Variant, ram []byte, base uint64) (*Model, error) {
	c := model.Config{
		RAM: ram, RAMBase: base, HostWidth: 40, Widths: []int{39, 48},
		Coherent: v.Coherent, UnorderedFlushes: !v.Coherent, CachingMode: v.CachingMode, WriteBufferFlush: v.WriteBuffer,
		Scalable: m.Unit() != 0,
	}
	if v.Narrow {
		c.Widths = []int{39}
	}
	u, err := model.New(c)
	if err != nil {
		return nil, err
	}
	if v.Coherent {
		return &Model{Unit: u}, nil
	}
	return &Model{Unit: u, stop: []func(){cacheline.Watch(u.Flushed), cacheline.WatchFence(u.Fenced)}}, nil
}

// Close ends the watching of flushes. Twice is harmless.
func (m *Model) Close() error {
	for _, f := range m.stop {
		f()
	}
	m.stop = nil
	return nil
}

const (
	page   = pagetable.FrameSize
	size2M = 2 << 20

	modelBase = 64 << 20 // bus address of the first byte
)

// openModel makes a unit, and a device that it translates for.
func openModel(_ context.Context, m *Machine, o Options) error {
	ram := alignedMemory(o.Tables + o.Memory)
	unit, err := NewModel(o.Mode, o.Variant, ram, modelBase)
	if err != nil {
		return err
	}
	m.later(unit.Close)
	m.later(func() error { // after the domain has gone
		if v := unit.Violations(); len(v) > 0 {
			return errors.New("the unit objects: " + v[0])
		}
		return nil
	})
	m.registers = unit
	m.tables = []pagetable.Segment{{Bus: modelBase, Mem: ram[:o.Tables]}}
	if err := m.segments(pagetable.Segment{Bus: modelBase + uint64(o.Tables), Mem: ram[o.Tables:]}); err != nil {
		return err
	}
	for i := range o.Devices {
		at := pci.Address{Device: uint8(3 + i)}
		e := NewEdu(unit.Device(at.RequesterID()), at)
		m.later(e.Close)
		m.Devices = append(m.Devices, Device{Function: e, Requester: at.RequesterID(), Mask: ^uint64(0)})
	}
	return nil
}

// alignedMemory is memory that begins on a multiple of 2 MiB.
func alignedMemory(size int) []byte {
	mem := make([]byte, size+size2M)
	return mem[(size2M-reflect.ValueOf(mem).Pointer()%size2M)%size2M:][:size:size]
}

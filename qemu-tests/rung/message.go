package rung

import (
	"context"
	"errors"
	"runtime"
	"time"

	"gommu/iommu"
	"gommu/pci"
)

// A message is an MSI that is aimed at a word of memory: nobody else is there to take
// interrupts, on qtest and in a guest whose kernel does not know the device. It
// goes through the unit as the device's other writes do, and after them.
type message struct{ word *pci.Window }

// value is what the message writes.
const value = 1

// Fields of the MSI capability with addresses of 64 bits.
const (
	msiControl, msiLow, msiHigh, msiData = 2, 4, 8, 12
)

// aim has a device send its interrupts into memory that is mapped for it.
func (m *Machine) aim(ctx context.Context, d *Device) error {
	b, err := m.Domain.Alloc(ctx, page, iommu.Bidirectional, iommu.Place{Mask: d.Mask})
	if err != nil {
		return err
	}
	m.later(func() error { return m.Domain.Free(b) })
	word, err := pci.NewWindow(b.Mem)
	if err != nil {
		return err
	}
	cfg := d.Function.Config()
	c, err := pci.FindCapability(cfg, pci.CapMSI, false)
	if err != nil {
		return err
	}
	err = errors.Join(
		cfg.Write(c.Offset+msiLow, 4, uint32(b.IOVA())),
		cfg.Write(c.Offset+msiHigh, 4, uint32(b.IOVA()>>32)),
		cfg.Write(c.Offset+msiData, 2, value),
		cfg.Write(c.Offset+msiControl, 2, msiEnable))
	if err != nil {
		return err
	}
	m.later(func() error { return cfg.Write(c.Offset+msiControl, 2, 0) })
	d.Interrupt = message{word}
	return nil
}

// Wait waits for the word. What arrives between the look and the clearing has
// arrived before Wait returns, too.
func (i message) Wait(ctx context.Context) error {
	const yields, shortest, longest = 100, 10 * time.Microsecond, time.Millisecond
	pause := shortest
	for round := 0; ; round++ {
		if i.word.Read32(0) != 0 {
			i.word.Write32(0, 0)
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if round < yields {
			runtime.Gosched()
			continue
		}
		time.Sleep(pause)
		pause = min(2*pause, longest)
	}
}

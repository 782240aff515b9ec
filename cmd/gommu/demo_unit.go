//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"

	"gommu/iommu/vtd"
	"gommu/pagetable"
	"gommu/pci"
	"gommu/respool"
)

// The demonstration's memory on rungs where this process owns the unit. Buffers
// follow the tables; their IOVAs lie where nothing but a translation leads.
const (
	unitRAM       = 16 << 20
	unitTables    = 1 << 20 // bus address and size of the table memory
	unitTableSize = 1 << 20
	unitBuffers   = 4 << 20
	unitIOVA      = 0x123456789000 // needs 48 bits
	unitDomain    = 2
)

var errLeaked = errors.New("not given back")

// A unitStage is a unit that this process drives, with one table for one device.
// Bus address 0 is ram's first byte.
type unitStage struct {
	ram    []byte
	device engine
	at     pci.Address // of the device

	frames *pagetable.FrameSource
	pool   *respool.Pool[pagetable.Frame]
	unit   *vtd.Unit
	table  *pagetable.Table
	batch  pagetable.Batch
	pages  uint64 // handed out so far
	seen   watch
}

// open makes the pool of frames, the unit and an empty table for the device, and
// switches translation on.
func (s *unitStage) open(ctx context.Context, regs vtd.Registers, r *report) error {
	s.seen.mem = s.ram
	r.Device = s.at.String()
	r.DMA = "second-stage tables written by this process"
	mem, err := pagetable.NewMemory(pagetable.Segment{Bus: unitTables, Mem: s.ram[unitTables:][:unitTableSize]})
	if err != nil {
		return err
	}
	s.frames = mem.Frames()
	if s.pool, err = respool.New(ctx, s.frames, respool.Options{Name: "frames"}); err != nil {
		return err
	}
	if s.unit, err = vtd.Open(regs, mem, s.pool, vtd.Options{}); err != nil {
		return err
	}
	c := s.unit.Capabilities()
	r.Unit = unit{Version: fmt.Sprintf("%#x", c.Version.Major<<4|c.Version.Minor), Cap: fmt.Sprintf("%#x", c.Cap), Ecap: fmt.Sprintf("%#x", c.Ecap)}
	if s.table, err = pagetable.New(mem, s.pool, c.TableOptions()); err != nil {
		return err
	}
	if err := s.unit.Attach(s.at.RequesterID(), unitDomain, s.table); err != nil {
		return err
	}
	return s.unit.Enable(ctx)
}

// close gives everything back, newest first. The device has been stopped.
func (s *unitStage) close(r *report) error {
	var errs []error
	if s.unit != nil {
		errs = append(errs, s.unit.Close())
	}
	if s.table != nil {
		errs = append(errs, s.batch.Release(), s.table.Close())
	}
	if s.pool != nil {
		r.Pool = reportPool("table frames", s.pool.Stats())
		errs = append(errs, closePool(s.pool))
	}
	if s.frames != nil && s.frames.Outstanding() > 0 {
		errs = append(errs, fmt.Errorf("%w: %d table frames", errLeaked, s.frames.Outstanding()))
	}
	return errors.Join(errs...)
}

func (s *unitStage) engine() engine    { return s.device }
func (s *unitStage) invalidates() bool { return true }
func (s *unitStage) outside() uint64   { return unitIOVA - 1<<30 }

// mapPage maps the next page of RAM. Every page gets a table branch of its own,
// so that mapping takes frames from the pool and unmapping gives them back.
func (s *unitStage) mapPage() (page, error) {
	bus := unitBuffers + s.pages*pageSize
	p := page{iova: unitIOVA + s.pages<<30, mem: s.ram[bus:][:pageSize]}
	if err := s.table.Map(p.iova, bus, pageSize, pagetable.Read|pagetable.Write); err != nil {
		return page{}, err
	}
	s.pages++
	return p, s.unit.Publish(unitDomain, p.iova, pageSize)
}

// release unmaps a page, if it is still mapped, and makes the unit forget it.
func (s *unitStage) release(p page) error {
	if _, err := s.table.Unmap(p.iova, pageSize, &s.batch); err != nil {
		return err
	}
	return s.invalidate()
}

func (s *unitStage) unmapPage(p page) error {
	n, err := s.table.Unmap(p.iova, pageSize, &s.batch)
	if err == nil && n != pageSize {
		err = fmt.Errorf("unmapping the page at %#x removed %d bytes", p.iova, n)
	}
	return err
}

// invalidate makes the unit forget what was unmapped; only then do the frames
// of tables that became empty go back to the pool.
func (s *unitStage) invalidate() error {
	first, last, ok := s.batch.Range()
	if !ok {
		return nil
	}
	if err := s.unit.Invalidate(unitDomain, first, last-first+1); err != nil {
		return err
	}
	return s.batch.Release()
}

func (s *unitStage) fault(_ context.Context, iova uint64) (*faultReport, error) {
	faults, _, err := s.unit.Faults()
	if err != nil {
		return nil, err
	}
	for _, f := range faults {
		if f.IOVA == iova && f.Source == s.at.RequesterID() && f.Write {
			return reportFault(f), nil
		}
	}
	return nil, fmt.Errorf("no fault was recorded for the device's write to %#x (recorded: %v)", iova, faults)
}

// changed looks at all of RAM but the tables and the pages given.
func (s *unitStage) changed(except ...page) int {
	spans := []span{{unitTables, unitTableSize}}
	for _, p := range except {
		spans = append(spans, span{unitBuffers + (p.iova-unitIOVA)>>30*pageSize, pageSize})
	}
	return s.seen.changed(spans...)
}

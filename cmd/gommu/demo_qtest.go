//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"

	"gommu/iommu/vtd"
	"gommu/pagetable"
	"gommu/pci"
	"gommu/qemu-tests/provision"
	"gommu/qemu-tests/qtest"
	"gommu/respool"
	"gommu/vfio/edu"
)

// The demonstration's machine. Buffers follow the tables in RAM; their IOVAs
// lie where nothing but a translation leads.
const (
	qtestRAM       = 16 << 20
	qtestTables    = 1 << 20 // bus address and size of the table memory
	qtestTableSize = 1 << 20
	qtestBuffers   = 4 << 20
	qtestIOVA      = 0x123456789000 // needs 48 bits
	qtestDomain    = 2
)

var errLeaked = errors.New("not given back")

// qtestDemo says how to run the demonstration on QEMU without a guest.
type qtestDemo struct {
	qemu          provision.QEMU
	beforeRequest func(n int, command string) error // fault injection for tests
}

// qtestStage is a machine with one unit, one table and one device.
type qtestStage struct {
	machine *qtest.Machine
	frames  *pagetable.FrameSource
	pool    *respool.Pool[pagetable.Frame]
	unit    *vtd.Unit
	table   *pagetable.Table
	fn      pci.Function
	edu     *edu.Device

	batch pagetable.Batch
	pages uint64 // handed out so far
	ram   watch
	died  error // what stopped the machine before it was closed: what else went wrong followed from it
}

// demoQtest runs the demonstration on QEMU's VT-d through tables that this
// process writes.
func demoQtest(ctx context.Context, d qtestDemo, r *report) (err error) {
	r.QEMU = d.qemu.Version
	r.DMA = "second-stage tables written by this process"
	s := &qtestStage{}
	defer func() {
		closing := s.close(r)
		err = errors.Join(s.died, err, closing)
	}()
	if err := s.open(ctx, d, r); err != nil {
		return err
	}
	demo := demonstration{stage: s, r: r}
	return demo.run(ctx)
}

func (s *qtestStage) open(ctx context.Context, d qtestDemo, r *report) error {
	var err error
	s.machine, err = qtest.Start(ctx, qtest.Config{
		QEMU:          d.qemu.Path,
		Memory:        qtestRAM,
		Devices:       []string{"edu,addr=0x3,dma_mask=0xffffffffffffffff"},
		BeforeRequest: d.beforeRequest,
	})
	if err != nil {
		return err
	}
	s.ram.mem = s.machine.RAM()
	if err := s.openUnit(ctx, r); err != nil {
		return err
	}
	at := pci.Address{Device: 3}
	r.Device = at.String()
	if s.fn, err = s.machine.PCI(at); err != nil {
		return err
	}
	if s.edu, err = edu.Open(s.fn, edu.Options{DMAMask: ^uint64(0)}); err != nil {
		return err
	}
	if err := s.unit.Attach(at.RequesterID(), qtestDomain, s.table); err != nil {
		return err
	}
	return s.unit.Enable(ctx)
}

// openUnit makes the pool of frames, the unit and an empty table.
func (s *qtestStage) openUnit(ctx context.Context, r *report) error {
	mem, err := pagetable.NewMemory(pagetable.Segment{Bus: qtestTables, Mem: s.machine.RAM()[qtestTables:][:qtestTableSize]})
	if err != nil {
		return err
	}
	s.frames = mem.Frames()
	if s.pool, err = respool.New(ctx, s.frames, respool.Options{Name: "frames"}); err != nil {
		return err
	}
	if s.unit, err = vtd.Open(s.machine.IOMMU(), mem, s.pool, vtd.Options{}); err != nil {
		return err
	}
	c := s.unit.Capabilities()
	r.Unit = unit{Version: fmt.Sprintf("%#x", c.Version.Major<<4|c.Version.Minor), Cap: fmt.Sprintf("%#x", c.Cap), Ecap: fmt.Sprintf("%#x", c.Ecap)}
	s.table, err = pagetable.New(mem, s.pool, c.TableOptions())
	return err
}

// close gives everything back, newest first: the device is stopped before its
// mappings go.
func (s *qtestStage) close(r *report) error {
	var errs []error
	if s.edu != nil {
		errs = append(errs, s.edu.Close())
	}
	if s.fn != nil {
		errs = append(errs, s.fn.Close())
	}
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
	if s.machine != nil {
		s.died = s.machine.Err()
		errs = append(errs, s.machine.Close())
	}
	return errors.Join(errs...)
}

func (s *qtestStage) engine() *edu.Device { return s.edu }
func (s *qtestStage) invalidates() bool   { return true }
func (s *qtestStage) outside() uint64     { return qtestIOVA - 1<<30 }

// mapPage maps the next page of RAM. Every page gets a table branch of its own,
// so that mapping takes frames from the pool and unmapping gives them back.
func (s *qtestStage) mapPage() (page, error) {
	bus := qtestBuffers + s.pages*pageSize
	p := page{iova: qtestIOVA + s.pages<<30, mem: s.machine.RAM()[bus:][:pageSize]}
	if err := s.table.Map(p.iova, bus, pageSize, pagetable.Read|pagetable.Write); err != nil {
		return page{}, err
	}
	s.pages++
	return p, s.unit.Publish(qtestDomain, p.iova, pageSize)
}

// release unmaps a page, if it is still mapped, and makes the unit forget it.
func (s *qtestStage) release(p page) error {
	if _, err := s.table.Unmap(p.iova, pageSize, &s.batch); err != nil {
		return err
	}
	return s.invalidate()
}

func (s *qtestStage) unmapPage(p page) error {
	n, err := s.table.Unmap(p.iova, pageSize, &s.batch)
	if err == nil && n != pageSize {
		err = fmt.Errorf("unmapping the page at %#x removed %d bytes", p.iova, n)
	}
	return err
}

// invalidate makes the unit forget what was unmapped; only then do the frames
// of tables that became empty go back to the pool.
func (s *qtestStage) invalidate() error {
	first, last, ok := s.batch.Range()
	if !ok {
		return nil
	}
	if err := s.unit.Invalidate(qtestDomain, first, last-first+1); err != nil {
		return err
	}
	return s.batch.Release()
}

func (s *qtestStage) fault(_ context.Context, iova uint64) (*faultReport, error) {
	faults, _, err := s.unit.Faults()
	if err != nil {
		return nil, err
	}
	for _, f := range faults {
		if f.IOVA == iova && f.Source == s.fn.Address().RequesterID() && f.Write {
			return reportFault(f), nil
		}
	}
	return nil, fmt.Errorf("no fault was recorded for the device's write to %#x (recorded: %v)", iova, faults)
}

// changed looks at all of RAM but the tables and the pages given.
func (s *qtestStage) changed(except ...page) int {
	spans := []span{{qtestTables, qtestTableSize}}
	for _, p := range except {
		spans = append(spans, span{qtestBuffers + (p.iova-qtestIOVA)>>30*pageSize, pageSize})
	}
	return s.ram.changed(spans...)
}

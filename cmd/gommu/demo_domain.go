//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gommu/iommu"
	"gommu/pci"
	"gommu/qemu-tests/rung"
	"gommu/respool"
	"gommu/vfio/edu"
)

// Where the demonstration's device reaches for what is not mapped: the domain keeps this range free. It lies within the 28 bits
// that an edu device has unless it is told otherwise.
const (
	outsideStart = 32 << 20
	outsideSize  = 2 << 20
)

// flushLater is a window that only the demonstration closes.
const flushLater = time.Hour

var errLeaked = errors.New("not given back")

// A stage is a rung made ready for the demonstration: a device in a domain, and a pool of registered pages.
// Unmapped pages stay reachable until the demonstration flushes.
type stage struct {
	machine *rung.Machine
	edu     *edu.Device
	source  *registeredPages
	pages   *respool.Pool[page]
	log     *kernelLog // where the kernel reports faults; nil if the unit is ours
	seen    watch
}

// A page is registered memory, and a window that the device has onto it.
type page struct {
	*registered
	mapping iommu.Mapping
}

// iova is where the device reaches the page.
func (p page) iova() uint64 { return p.mapping.IOVA() }

// registered is a page of memory that was registered by itself.
type registered struct {
	off    int // of its memory in that of all
	mem    []byte
	region *iommu.Region
	mapped bool
}

// open opens the rung. What it needs of the options is what the rungs differ in.
func (s *stage) open(ctx context.Context, name string, o rung.Options, r *report) error {
	o.Memory = demoMemory
	o.Domain = iommu.Options{
		Name: "demo", Mask: o.Mask, Bounce: iommu.Bounce{Off: true},
		Reserved: []iommu.IOVARange{{Start: outsideStart, Last: outsideStart + outsideSize - 1}},
		Flush:    iommu.Flush{Policy: iommu.Batched, Deadline: flushLater},
	}
	var err error
	if s.machine, err = rung.Open(ctx, name, o); err != nil {
		return err
	}
	m := s.machine
	r.Device = m.Function.Address().String()
	if m.Unit != nil {
		r.DMA = "second-stage tables written by this process"
		c := m.Unit.Capabilities()
		r.Unit = unit{Version: fmt.Sprintf("%#x", c.Version.Major<<4|c.Version.Minor), Cap: fmt.Sprintf("%#x", c.Cap), Ecap: fmt.Sprintf("%#x", c.Ecap)}
	}
	if s.edu, err = m.Edu(); err != nil {
		return err
	}
	if s.source, err = newRegisteredPages(ctx, m); err != nil {
		return err
	}
	s.seen.mem = s.source.mem
	s.pages, err = respool.New(ctx, s.source, respool.Options{Name: "registered pages", Max: demoPages})
	return err
}

// close gives everything back, newest first: the device is stopped before its
// mappings go.
func (s *stage) close(r *report) error {
	var errs []error
	if s.edu != nil {
		errs = append(errs, s.edu.Close())
	}
	if s.pages != nil {
		r.Pool = reportPool("registered pages", s.pages.Stats())
		errs = append(errs, closePool(s.pages))
	}
	if s.source != nil {
		errs = append(errs, s.source.close())
	}
	if s.machine != nil {
		errs = append(errs, s.machine.Close())
		if frames := s.machine.Tables.Frames; frames != nil {
			r.Pool = reportPool("table frames", frames.Stats())
		}
	}
	if s.log != nil {
		errs = append(errs, s.log.Close())
	}
	return errors.Join(errs...)
}

// mapPage takes a registered page and maps it, which does not sleep.
func (s *stage) mapPage() (page, error) {
	p, err := s.pages.Get()
	if err != nil {
		return page{}, err
	}
	if p.mapping, err = p.region.Map(0, pageSize, iommu.Bidirectional); err != nil {
		return page{}, errors.Join(err, s.pages.Put(p))
	}
	p.mapped = true
	return p, nil
}

// release unmaps a page, if it is still mapped, and gives it back, registered.
func (s *stage) release(ctx context.Context, p page) error {
	if p.mapped {
		if err := s.unmapPage(p); err != nil {
			return err
		}
	}
	if p.region == nil {
		if err := s.source.register(ctx, p); err != nil {
			return err
		}
	}
	return s.pages.Put(p)
}

// unmapPage takes the page's mapping away. The device may reach it all the same, until
// invalidate.
func (s *stage) unmapPage(p page) error {
	if err := s.machine.Domain.Unmap(p.mapping); err != nil {
		return err
	}
	p.mapped = false
	return nil
}

// invalidate sees to it that the device does not reach what was unmapped: own tables are flushed. Where
// the kernel has the tables what is registered is reached, so the page's registration has to end.
func (s *stage) invalidate(ctx context.Context, p page) error {
	if err := s.machine.Domain.Flush(ctx); err != nil {
		return err
	}
	if !s.machine.Domain.Premapped() {
		return nil
	}
	region := p.region
	p.region = nil
	return region.Close()
}

// outside is an IOVA that no mapping covers.
func (s *stage) outside() uint64 { return outsideStart + pageSize }

// fault waits for the record of a blocked write at iova.
func (s *stage) fault(ctx context.Context, iova uint64) (*faultReport, error) {
	iova &^= pageSize - 1
	if s.log != nil {
		return s.log.fault(ctx, s.machine.Function.Address(), iova)
	}
	faults, err := s.machine.Faults()
	if err != nil {
		return nil, err
	}
	for _, f := range faults {
		if f.IOVA == iova && f.Source == s.machine.Requester && f.Write {
			return reportFault(f), nil
		}
	}
	return nil, fmt.Errorf("no fault was recorded for the device's write to %#x (recorded: %v)", iova, faults)
}

// changed looks at all memory that is registered, or was, but for the pages given.
func (s *stage) changed(except ...page) int {
	var spans []span
	for _, p := range except {
		spans = append(spans, span{uint64(p.off), pageSize})
	}
	return s.seen.changed(spans...)
}

// requester is a requester id as an address.
func requester(id uint16) string {
	return pci.Address{Bus: uint8(id >> 8), Device: uint8(id>>3) & 31, Function: uint8(id) & 7}.String()
}

const (
	demoMemory = 8 << 20
	demoPages  = 64
)

// registeredPages is the source of a pool of pages that are registered in a domain, which sleeps.
type registeredPages struct {
	machine *rung.Machine
	mem     []byte
	free    chan int // offsets
}

func newRegisteredPages(ctx context.Context, m *rung.Machine) (*registeredPages, error) {
	mem, err := m.Memory.Alloc(ctx, demoPages*pageSize)
	if err != nil {
		return nil, err
	}
	p := &registeredPages{machine: m, mem: mem, free: make(chan int, demoPages)}
	for i := range demoPages {
		p.free <- i * pageSize
	}
	return p, nil
}

// Alloc registers a page.
func (s *registeredPages) Alloc(ctx context.Context) (page, error) {
	select {
	case off := <-s.free:
		p := page{registered: &registered{off: off, mem: s.mem[off:][:pageSize:pageSize]}}
		if err := s.register(ctx, p); err != nil {
			s.free <- off
			return page{}, err
		}
		return p, nil
	default:
		return page{}, errors.New("all pages are registered")
	}
}

func (s *registeredPages) register(ctx context.Context, p page) (err error) {
	p.region, err = s.machine.Domain.Register(ctx, p.mem, iommu.Bidirectional)
	return err
}

// Free ends a page's registration.
func (s *registeredPages) Free(p page) error {
	if p.region != nil {
		if err := p.region.Close(); err != nil {
			return err
		}
	}
	s.free <- p.off
	return nil
}

// close gives the memory back. A page that is still registered keeps it.
func (s *registeredPages) close() error {
	if n := demoPages - len(s.free); n > 0 {
		return fmt.Errorf("%w: %d registered pages", errLeaked, n)
	}
	return s.machine.Memory.Free(s.mem)
}

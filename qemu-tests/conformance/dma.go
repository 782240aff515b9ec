package conformance

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"time"

	"gommu/iommu"
	"gommu/pagetable"
)

// Cases of DMA through package iommu, as a driver does it.
var dmaCases = []Case{
	{Name: "dma/map", About: "what is mapped is reached, with the offset that it has in its page, and nothing after Unmap", run: dmaMap},
	{Name: "dma/directions", About: "the device does what the mapping's direction allows", run: dmaDirections},
	{Name: "dma/large", About: "2 MiB in one mapping are reached from the first to the last byte, and nothing after Unmap", run: dmaLarge},
	{Name: "dma/first-touch", About: "a mapping is reached though its IOVA was blocked before", run: dmaFirstTouch},
	{Name: "dma/caching-mode", About: "the same where the unit has to be told of what was not present", variant: Variant{CachingMode: true}, run: dmaFirstTouch},
	{Name: "dma/write-buffer", About: "the same where the unit has write buffers", variant: Variant{WriteBuffer: true}, run: dmaFirstTouch},
	{Name: "dma/list", About: "a list of pieces is one mapping: what follows each other is merged, and the device finds all of it", run: dmaList},
	{Name: "dma/list-limits", About: "no piece of a list is longer than its limit or crosses its boundary", run: dmaListLimits},
	{Name: "dma/ring", About: "a ring's mappings follow each other, and one flush ends them all", run: dmaRing},
	{Name: "dma/bounce", About: "memory that is not registered is copied through buffers", run: dmaBounce},
	{Name: "dma/strict", About: "strict: when Unmap returns the device reaches nothing of it", run: dmaStrict},
	{Name: "dma/batched", About: "batched: the window is open until the flush, and closed after", run: dmaBatched},
	{Name: "dma/batched-bound", About: "batched: a bound that is passed closes the window without a call", run: dmaBound},
	{Name: "dma/reuse", About: "batched: an IOVA that comes back leads to the new page, never to the old one", run: dmaReuse},
	{Name: "dma/faults", About: "a blocked access is recorded with the IOVA that the mapping had", run: dmaFaults},
	{Name: "dma/guard", About: "a device that runs over the end of a mapping faults in the guard page", run: dmaGuard},
	{Name: "dma/two-devices", About: "two devices in one domain reach the same; detaching one leaves the other", run: dmaTwoDevices},
	{Name: "dma/two-domains", About: "two devices in two domains do not reach each other's mappings", run: dmaTwoDomains},
	{Name: "dma/mask", About: "no IOVA is beyond the domain's mask, and a device with a smaller one is refused", run: dmaMask},
	{Name: "dma/window-32", About: "a domain of 32 bits leaves out the interrupt range and what is reserved", run: dmaWindow32},
	{Name: "dma/narrow", About: "in a unit of 39 bits every IOVA works", modes: []Mode{Legacy, ScalableSecond}, variant: Variant{Narrow: true}, run: dmaNarrow},
	{Name: "dma/place", About: "a mapping is where it was asked for, and the place is free again after", run: dmaPlace},
	{Name: "dma/buffer", About: "memory that is shared for long is aligned and reached", run: dmaBuffer},
	{Name: "dma/close", About: "a domain with mappings refuses to close, and one that is forced leaves nothing reachable", run: dmaClose},
}

// A space is a domain in which the data pages are registered.
type space struct {
	*iommu.Domain
	b      *bench
	region *iommu.Region
}

// space makes a domain for the given devices, with checks on.
func (b *bench) space(opts iommu.Options, devices ...int) *space {
	opts.Name, opts.Check = "case", true
	if opts.MaxMappings == 0 {
		opts.MaxMappings = 4096
	}
	table, err := b.unit.TableOptions(b.mode.Stage())
	b.must(err)
	d, err := iommu.New(b.ctx, b.dmaMemory(), iommu.Tables{Frames: b.frames, Memory: b.mem, Table: table}, opts)
	b.must(err)
	s := &space{Domain: d, b: b}
	b.later(s.close)
	s.region, err = d.Register(b.ctx, b.data.Mem, iommu.Bidirectional)
	b.must(err)
	for _, i := range devices {
		s.attach(i)
	}
	b.enable()
	return s
}

// dmaMemory is the data pages, and what is handed out of the rig's room.
type dmaMemory struct {
	*iommu.Segments
	room *iommu.Segments
}

func (b *bench) dmaMemory() iommu.Memory {
	if b.room == nil {
		var err error
		b.room, err = iommu.NewSegments(b.rig.Room()...)
		b.must(err)
	}
	all, err := iommu.NewSegments(append([]pagetable.Segment{b.data}, b.rig.Room()...)...)
	b.must(err)
	return dmaMemory{all, b.room}
}

func (m dmaMemory) Alloc(ctx context.Context, size int) ([]byte, error) {
	return m.room.Alloc(ctx, size)
}
func (m dmaMemory) Free(mem []byte) error { return m.room.Free(mem) }

func (s *space) device(i int) iommu.Device {
	return iommu.Device{Source: s.b.dev[i].Source(), Unit: s.b.unit}
}

func (s *space) attach(i int) {
	d := s.device(i)
	s.b.must(s.Attach(d))
	s.b.later(func() error {
		err := s.Detach(d)
		if errors.Is(err, iommu.ErrNotAttached) || errors.Is(err, iommu.ErrClosed) {
			return nil // the case has done it
		}
		return err
	})
}

// close ends the domain, which a case may have left with mappings.
func (s *space) close() error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.b.ctx), caseLimit)
	defer cancel()
	err := s.CloseForced(ctx)
	if errors.Is(err, iommu.ErrClosed) {
		return nil // the case has done it
	}
	return err
}

// page maps data page n.
func (s *space) page(n int, dir iommu.Direction) iommu.Mapping {
	return s.mapBytes(s.b.at(s.b.bus(n), page), dir)
}

// mapBytes maps memory. A case maps faster than a driver with something to do: where a
// pool is dry for that, it tries again.
func (s *space) mapBytes(mem []byte, dir iommu.Direction) (m iommu.Mapping) {
	s.b.eventually("a pool is filled", func() bool {
		var err error
		m, err = s.Map(mem, dir)
		if err != nil && !errors.Is(err, iommu.ErrEmpty) {
			s.b.must(err)
		}
		return err == nil
	})
	return m
}

func (s *space) unmap(all ...iommu.Mapping) {
	for _, m := range all {
		s.b.must(s.Unmap(m))
	}
}

func (s *space) flush() { s.b.must(s.Flush(s.b.ctx)) }

// eventually waits for what a worker does by itself.
func (b *bench) eventually(what string, f func() bool) {
	for end := time.Now().Add(caseLimit / 2); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			b.fatalf("%s: it never happened", what)
		}
	}
}

func batched(count int) iommu.Options {
	return iommu.Options{Flush: iommu.Flush{Policy: iommu.Batched, Count: count, Deadline: time.Hour}}
}

func dmaMap(b *bench) {
	s := b.space(iommu.Options{}, 0)
	for _, r := range [][2]uint64{{0, page}, {5, 100}, {page - 3, 6}, {100, 3 * page}, {7*page + 9, 1}} {
		off, n := r[0], r[1]
		m := s.mapBytes(b.at(b.data.Bus+off, int(n)), iommu.Bidirectional)
		if m.Size() != n || m.IOVA()%page != off%page {
			b.failf("%d bytes at offset %#x: iova %#x, %d bytes", n, off, m.IOVA(), m.Size())
		}
		back := s.page(100, iommu.FromDevice)
		k := int(min(n, MaxTransfer))
		b.copies(0, m.IOVA(), b.data.Bus+off, back.IOVA(), b.bus(100), k)
		s.unmap(m, back)
		b.write(0, m.IOVA(), 1)
		b.faults(b.absent(0, m.IOVA(), true))
		if err := s.Unmap(m); !errors.Is(err, iommu.ErrNotMapped) {
			b.failf("unmapped twice: %v", err)
		}
	}
}

// dmaDirections tries first what is forbidden: some units record no fault of an access that a cached entry
// forbids.
func dmaDirections(b *bench) {
	s := b.space(iommu.Options{}, 0)
	both, to, from := s.page(0, iommu.Bidirectional), s.page(1, iommu.ToDevice), s.page(2, iommu.FromDevice)
	b.expect(0, to.IOVA(), b.bus(1), false, "to device")
	b.faults(b.denied(0, to.IOVA(), true))
	if b.mode != ScalableFirst { // which cannot forbid reads
		b.random(b.bus(2), probe)
		b.read(0, from.IOVA(), probe)
		b.faults(b.denied(0, from.IOVA(), false))
		b.holdsZeros(0, both.IOVA(), b.bus(0), probe, "from device")
	}
	b.copies(0, to.IOVA(), b.bus(1), both.IOVA(), b.bus(0), 100)
	b.copies(0, both.IOVA(), b.bus(0), from.IOVA(), b.bus(2), 100)
	for _, dir := range []iommu.Direction{0, 4} {
		if _, err := s.Map(b.at(b.bus(3), page), dir); !errors.Is(err, iommu.ErrDirection) {
			b.failf("%v: %v", dir, err)
		}
	}
	s.unmap(both, to, from)
}

func dmaLarge(b *bench) {
	s := b.space(iommu.Options{}, 0)
	m := s.mapBytes(b.data.Mem, iommu.Bidirectional)
	b.copies(0, m.IOVA()+7, b.data.Bus+7, m.IOVA()+size2M-MaxTransfer, b.data.Bus+size2M-MaxTransfer, MaxTransfer)
	for _, off := range []uint64{0, size2M/2 - 8, size2M - probe} {
		b.expect(0, m.IOVA()+off, b.data.Bus+off, true, "mapped")
	}
	s.unmap(m)
	for _, off := range []uint64{0, size2M / 2, size2M - page} {
		b.expect(0, m.IOVA()+off, b.data.Bus+off, false, "unmapped")
		b.faults(b.absent(0, m.IOVA()+off, true))
	}
}

// dmaFirstTouch has the device reach for IOVAs that become mappings after that.
func dmaFirstTouch(b *bench) {
	s := b.space(iommu.Options{}, 0)
	for n := range b.rounds(10) {
		at := uint64(somewhere + n*size2M)
		for range 2 {
			b.expect(0, at, b.bus(n), false, "not mapped")
			b.faults(b.absent(0, at, true))
			m := s.mapAt(b.at(b.bus(n), page), at)
			b.expect(0, at, b.bus(n), true, "mapped")
			b.noFaults()
			s.unmap(m)
		}
	}
}

// somewhere is an IOVA that no other mapping gets.
const somewhere = 0x40_0000_0000

// mapAt maps memory at an IOVA. What was there may take a moment to be free.
func (s *space) mapAt(mem []byte, iova uint64) (m iommu.Mapping) {
	s.b.eventually("the place is free", func() bool {
		var err error
		m, err = s.MapWait(s.b.ctx, mem, iommu.Bidirectional, iommu.Place{IOVA: iova, Fixed: true})
		if err != nil && !errors.Is(err, iommu.ErrOverlap) {
			s.b.must(err)
		}
		return err == nil
	})
	if m.IOVA() != iova {
		s.b.failf("asked for iova %#x, got %#x", iova, m.IOVA())
	}
	return m
}

func dmaStrict(b *bench) {
	s := b.space(iommu.Options{}, 0)
	for n := range b.rounds(20) {
		m := s.page(n, iommu.Bidirectional)
		b.expect(0, m.IOVA(), b.bus(n), true, "mapped")
		s.unmap(m)
		b.expect(0, m.IOVA(), b.bus(n), false, "unmapped")
		b.faults(b.absent(0, m.IOVA(), true))
	}
}

func dmaBatched(b *bench) {
	s := b.space(batched(1000), 0)
	var all []iommu.Mapping
	for n := range b.rounds(8) {
		all = append(all, s.page(n, iommu.Bidirectional))
		b.expect(0, all[n].IOVA(), b.bus(n), true, "mapped")
	}
	s.unmap(all...)
	for n, m := range all {
		b.expect(0, m.IOVA(), b.bus(n), true, "within the window")
	}
	s.flush()
	for n, m := range all {
		b.expect(0, m.IOVA(), b.bus(n), false, "after the flush")
		b.faults(b.absent(0, m.IOVA(), true))
	}
}

func dmaBound(b *bench) {
	for what, flush := range map[string]iommu.Flush{
		"count": {Count: 4, Deadline: time.Hour}, "bytes": {Bytes: 4 * page, Deadline: time.Hour}, "deadline": {Deadline: time.Millisecond},
	} {
		flush.Policy = iommu.Batched
		s := b.space(iommu.Options{Flush: flush}, 0)
		var last iommu.Mapping
		for n := range 8 {
			last = s.page(n, iommu.Bidirectional)
			if n == 0 {
				b.expect(0, last.IOVA(), b.bus(n), true, "mapped")
			}
			s.unmap(last)
		}
		b.eventually(what+" closes the window", func() bool { return !b.reaches(0, last.IOVA(), b.bus(7)) })
		b.drain()
		b.must(s.Detach(s.device(0)))
		b.must(s.close())
	}
}

// dmaReuse warms the unit's cache with each mapping. When its IOVA comes back it leads to another page: one
// that came back before the flush would lead to the old one.
func dmaReuse(b *bench) {
	s := b.space(batched(50), 0)
	const maps = 300
	seen, step := map[uint64]bool{}, maps/b.rounds(maps)
	for i := range maps {
		n := 1 + i%100
		m := s.page(n, iommu.Bidirectional)
		if i%step == 0 || seen[m.IOVA()] && !b.traits.SlowDMA {
			b.expect(0, m.IOVA(), b.bus(n), true, "mapped")
		}
		seen[m.IOVA()] = true
		s.unmap(m)
		if i%100 == 99 {
			s.flush()
		}
	}
	for range 2000 { // windows go round
		m := s.page(0, iommu.Bidirectional)
		again := seen[m.IOVA()]
		if again {
			b.expect(0, m.IOVA(), b.bus(0), true, "mapped again")
		}
		s.unmap(m)
		if again {
			break
		}
	}
	b.noFaults()
}

func dmaFaults(b *bench) {
	s := b.space(iommu.Options{}, 0, 1)
	for n := range b.rounds(10) {
		m := s.mapBytes(b.at(b.bus(n), 3*page), iommu.Bidirectional)
		s.unmap(m)
		for k := range uint64(3) {
			at := m.IOVA() + k*page + 5
			b.write(n%2, at, 8)
			b.faults(b.absent(n%2, at, true))
			b.read(n%2, at, 8)
			b.faults(b.absent(n%2, at, false))
		}
	}
}

func dmaGuard(b *bench) {
	s := b.space(iommu.Options{Guard: true}, 0)
	var all []iommu.Mapping
	for n := range 32 {
		all = append(all, s.mapBytes(b.at(b.bus(2*n), (1+n%2)*page), iommu.Bidirectional))
	}
	for n := range b.rounds(32) {
		m := all[n]
		end := m.IOVA() + m.Size()
		before := slices.Clone(b.data.Mem)
		b.write(0, end, 8)
		b.faults(b.absent(0, end, true))
		if !bytes.Equal(b.data.Mem, before) {
			b.failf("a write behind mapping %d changed memory", n)
		}
		b.expect(0, end-probe, b.bus(2*n)+m.Size()-probe, true, "the end of the mapping")
		b.noFaults()
	}
	s.unmap(all...)
}

func dmaTwoDevices(b *bench) {
	s := b.space(batched(1000), 0, 1)
	m := s.page(3, iommu.Bidirectional)
	for i := range 2 {
		b.expect(i, m.IOVA(), b.bus(3), true, "mapped")
	}
	s.unmap(m)
	s.flush()
	for i := range 2 {
		b.expect(i, m.IOVA(), b.bus(3), false, "flushed")
		b.faults(b.absent(i, m.IOVA(), true))
	}
	m = s.page(4, iommu.Bidirectional)
	if err := s.Attach(s.device(0)); !errors.Is(err, iommu.ErrAttached) {
		b.failf("attached twice: %v", err)
	}
	b.must(s.Detach(s.device(0)))
	b.expect(0, m.IOVA(), b.bus(4), false, "detached")
	b.faults(b.unattached(0, m.IOVA(), true))
	b.expect(1, m.IOVA(), b.bus(4), true, "the other device")
	b.must(s.Attach(s.device(0)))
	b.expect(0, m.IOVA(), b.bus(4), true, "attached again")
	b.noFaults()
	s.unmap(m)
}

func dmaTwoDomains(b *bench) {
	one, two := b.space(iommu.Options{}, 0), b.space(iommu.Options{}, 1)
	m, n := one.page(1, iommu.Bidirectional), two.page(2, iommu.Bidirectional)
	b.expect(0, m.IOVA(), b.bus(1), true, "its own domain")
	b.expect(1, n.IOVA(), b.bus(2), true, "its own domain")
	b.expect(0, n.IOVA(), b.bus(2), false, "the other's domain")
	b.expect(1, m.IOVA(), b.bus(1), false, "the other's domain")
	b.drain() // the IOVAs may be the same
	if err := two.Unmap(iommu.Mapping{}); !errors.Is(err, iommu.ErrNotMapped) {
		b.failf("no mapping at all: %v", err)
	}
	one.unmap(m)
	two.unmap(n)
}

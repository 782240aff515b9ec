//go:build linux

package qtest_test

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"gommu/iommu/vtd"
	"gommu/pagetable"
	"gommu/pci"
	"gommu/qemu-tests/qtest"
	"gommu/vfio/edu"
)

// top is an IOVA in the last table of the width, so that every level counts.
func top(md mode) uint64 { return 1<<md.width - 1<<30 + 0x123_4000 }

func TestDMA(t *testing.T) {
	everyMode(t, func(t *testing.T, md mode) {
		r := newRig(t, md)
		tbl := r.attached(firstEdu, 1)
		// Two pages that are neighbours for the device and not in memory.
		iova := top(md)
		r.mapRange(tbl, iova, frame(5), page, both)
		r.mapRange(tbl, iova+page, frame(2), page, both)
		r.mapRange(tbl, 0x1000, frame(9), page, both)
		r.copyThrough(0, iova+7, frame(5)+7, 0x1000, frame(9), 4000)
		r.copyThrough(0, 0x1001, frame(9)+1, iova+0x20, frame(5)+0x20, 4095-0x21)

		want := append(r.random(frame(5)+page-100, 100), r.random(frame(2), 200)...)
		r.read(0, iova+page-100, 300)
		r.write(0, 0x1000, 300)
		if !bytes.Equal(r.bytesAt(frame(9), 300), want) {
			t.Error("a transfer over a page boundary went astray")
		}
		r.noFaults()
	})
}

func TestBlocked(t *testing.T) {
	everyMode(t, func(t *testing.T, md mode) {
		r := newRig(t, md)
		tbl := r.attached(firstEdu, 1)
		r.mapRange(tbl, 0x1000, frame(1), page, both)

		// The IOVA is the address of a page in RAM: untranslated DMA would
		// reach it.
		iova := frame(7)
		if r.reaches(0, iova, iova) {
			t.Error("the device wrote where nothing is mapped")
		}
		r.faults(false, writeFault(vtd.ReasonNoWrite, firstEdu, iova))

		secret := r.random(iova, 512)
		r.read(0, iova, 512)
		r.faults(false, readFault(vtd.ReasonNoRead, firstEdu, iova))
		r.write(0, 0x1000, 512)
		if got := r.bytesAt(frame(1), 512); bytes.Contains(got, secret[:8]) || !bytes.Equal(got, make([]byte, 512)) {
			t.Error("the device has bytes that it was not allowed to read")
		}
		r.noFaults()
	})
}

func TestPermissions(t *testing.T) {
	everyMode(t, func(t *testing.T, md mode) {
		r := newRig(t, md)
		tbl := r.attached(firstEdu, 1)
		r.mapRange(tbl, 0x1000, frame(1), page, pagetable.Read)
		r.mapRange(tbl, 0x2000, frame(2), page, pagetable.Write)
		if r.reaches(0, 0x1040, frame(1)+0x40) {
			t.Error("a write passed a read-only mapping")
		}
		r.faults(false, writeFault(vtd.ReasonNoWrite, firstEdu, 0x1000))
		r.read(0, 0x2040, 64)
		r.faults(false, readFault(vtd.ReasonNoRead, firstEdu, 0x2000))
		r.copyThrough(0, 0x1000, frame(1), 0x2000, frame(2), 100)
	})
}

func TestBeyondWidth(t *testing.T) {
	everyMode(t, func(t *testing.T, md mode) {
		r := newRig(t, md)
		r.attached(firstEdu, 1)
		iova := uint64(1) << md.width
		r.write(0, iova, 16)
		r.faults(false, writeFault(vtd.ReasonBeyondWidth, firstEdu, iova))
	})
}

// TestStale shows that the emulated unit has a cache and that each way of
// invalidating empties it.
func TestStale(t *testing.T) {
	invalidate := map[string]func(u *vtd.Unit, iova uint64) error{
		"page":   func(u *vtd.Unit, iova uint64) error { return u.Invalidate(1, iova, page) },
		"range":  func(u *vtd.Unit, iova uint64) error { return u.Invalidate(1, iova-3*page, 5*page) },
		"huge":   func(u *vtd.Unit, iova uint64) error { return u.Invalidate(1, 0, 1<<38) },
		"domain": func(u *vtd.Unit, iova uint64) error { return u.InvalidateDomain(1) },
		"all":    func(u *vtd.Unit, iova uint64) error { return u.InvalidateAll() },
	}
	everyMode(t, func(t *testing.T, md mode) {
		r := newRig(t, md)
		tbl := r.attached(firstEdu, 1)
		iova := uint64(0x40_7000)
		for name, f := range invalidate {
			r.mapRange(tbl, iova, frame(3), page, both)
			if !r.reaches(0, iova, frame(3)) {
				t.Fatalf("%s: the mapping does not work", name)
			}
			b := r.unmap(tbl, iova, page)
			if !r.reaches(0, iova, frame(3)) {
				t.Errorf("%s: the unit cached nothing: this case proves nothing", name)
			}
			// Another domain's invalidation is none of ours, nor another page's.
			r.must(r.unit.Invalidate(2, iova, page))
			r.must(r.unit.InvalidateDomain(2))
			r.must(r.unit.Invalidate(1, iova+8*page, page))
			if !r.reaches(0, iova, frame(3)) {
				t.Errorf("%s: an invalidation of something else dropped the entry", name)
			}
			r.must(f(r.unit, iova))
			r.must(b.Release())
			if r.reaches(0, iova, frame(3)) {
				t.Errorf("%s: the device still reaches the page after the invalidation", name)
			}
			r.faults(false, writeFault(vtd.ReasonNoWrite, firstEdu, iova))
		}
	})
}

func TestRemap(t *testing.T) {
	everyMode(t, func(t *testing.T, md mode) {
		r := newRig(t, md)
		tbl := r.attached(firstEdu, 1)
		r.mapRange(tbl, 0x1000, frame(1), page, both)
		if !r.reaches(0, 0x1000, frame(1)) {
			t.Fatal("the mapping does not work")
		}
		b := r.unmap(tbl, 0x1000, page)
		r.must(r.unit.Invalidate(1, 0x1000, page))
		r.must(b.Release())
		r.mapRange(tbl, 0x1000, frame(2), page, both)
		r.must(r.unit.Publish(1, 0x1000, page))
		if r.reaches(0, 0x1000, frame(1)) || !r.reaches(0, 0x1000, frame(2)) {
			t.Error("the device does not reach the new page, or still the old one")
		}
	})
}

func TestSuperpage(t *testing.T) {
	const size = 2 << 20
	everyMode(t, func(t *testing.T, md mode) {
		r := newRig(t, md)
		tbl := r.attached(firstEdu, 1)
		iova := top(md) &^ (size - 1)
		r.mapRange(tbl, iova, dataBase, size, both)
		if l, ok := tbl.Lookup(iova + 5*page); !ok || l.Size != size {
			t.Fatalf("the leaf is %+v: this case is about 2 MiB", l)
		}
		for _, off := range []uint64{0, 0x12_3456, size - 64} {
			if !r.reaches(0, iova+off, dataBase+off) {
				t.Errorf("offset %#x of the superpage is not reached", off)
			}
		}
		b := r.unmap(tbl, iova, size)
		if !r.reaches(0, iova+0x8000, dataBase+0x8000) {
			t.Error("the unit cached nothing: this case proves nothing")
		}
		r.must(r.unit.Invalidate(1, iova, size))
		r.must(b.Release())
		if r.reaches(0, iova+0x8000, dataBase+0x8000) {
			t.Error("the device still reaches the superpage")
		}
		r.faults(false, writeFault(vtd.ReasonNoWrite, firstEdu, iova+0x8000))
	})
}

func TestNotAttached(t *testing.T) {
	everyMode(t, func(t *testing.T, md mode) {
		r := newRig(t, md)
		r.enable()
		if r.reaches(0, frame(1), frame(1)) {
			t.Error("DMA passed without a root entry")
		}
		r.faults(false, writeFault(vtd.ReasonRootNotPresent, firstEdu, frame(1)))
		tbl := r.table()
		r.must(r.unit.Attach(secondEdu, 1, tbl)) // the bus has a context table now
		if r.reaches(0, frame(1), frame(1)) {
			t.Error("DMA passed without a context entry")
		}
		r.faults(false, writeFault(vtd.ReasonContextNotPresent, firstEdu, frame(1)))
		r.read(0, frame(1), 8)
		r.faults(false, readFault(vtd.ReasonContextNotPresent, firstEdu, frame(1)))
	})
}

func TestDetach(t *testing.T) {
	everyMode(t, func(t *testing.T, md mode) {
		r := newRig(t, md)
		one, two := r.attached(firstEdu, 1), r.table()
		r.mapRange(one, 0x1000, frame(1), page, both)
		r.mapRange(two, 0x1000, frame(2), page, both)
		if !r.reaches(0, 0x1000, frame(1)) {
			t.Fatal("the mapping does not work")
		}
		if err := r.unit.Attach(firstEdu, 2, two); !errors.Is(err, vtd.ErrAttached) {
			t.Errorf("attaching twice: %v", err)
		}
		r.must(r.unit.Detach(firstEdu))
		if r.reaches(0, 0x1000, frame(1)) {
			t.Error("a detached device still reaches its page")
		}
		r.faults(false, writeFault(vtd.ReasonContextNotPresent, firstEdu, 0x1000))
		if err := r.unit.Detach(firstEdu); !errors.Is(err, vtd.ErrNotAttached) {
			t.Errorf("detaching twice: %v", err)
		}
		r.must(r.unit.Attach(firstEdu, 2, two))
		if r.reaches(0, 0x1000, frame(1)) || !r.reaches(0, 0x1000, frame(2)) {
			t.Error("the device does not go through its new table")
		}
		r.noFaults()
	})
}

func TestTwoDevices(t *testing.T) {
	everyMode(t, func(t *testing.T, md mode) {
		md.second = true
		r := newRig(t, md)
		one, two := r.attached(firstEdu, 1), r.table()
		r.must(r.unit.Attach(secondEdu, 2, two))
		r.mapRange(one, 0x1000, frame(1), page, both)
		r.mapRange(two, 0x1000, frame(2), page, both)
		r.mapRange(two, 0x9000, frame(1), page, pagetable.Read)
		r.copyThrough(1, 0x9000, frame(1), 0x1000, frame(2), 128)
		if r.reaches(1, 0x1000, frame(1)) || r.reaches(0, 0x1000, frame(2)) {
			t.Error("a device reaches the other's page")
		}
		r.noFaults()
		// Detaching one leaves the other alone.
		r.must(r.unit.Detach(firstEdu))
		if r.reaches(0, 0x1000, frame(1)) || !r.reaches(1, 0x1000, frame(2)) {
			t.Error("the wrong device was detached")
		}
		r.faults(false, writeFault(vtd.ReasonContextNotPresent, firstEdu, 0x1000))
	})
}

func TestFaultOverflow(t *testing.T) {
	everyMode(t, func(t *testing.T, md mode) {
		md.second = true
		r := newRig(t, md)
		tbl := r.attached(firstEdu, 1)
		r.must(r.unit.Attach(secondEdu, 1, tbl))
		for range 2 { // the second time shows that the overflow was cleared
			r.write(0, 0x5000, 8)
			r.read(1, 0x6000, 8) // the only record is taken
			r.faults(true, writeFault(vtd.ReasonNoWrite, firstEdu, 0x5000))
			r.noFaults()
			r.read(1, 0x6000, 8)
			r.faults(false, readFault(vtd.ReasonNoRead, secondEdu, 0x6000))
		}
	})
}

func TestDisable(t *testing.T) {
	everyMode(t, func(t *testing.T, md mode) {
		r := newRig(t, md)
		if !r.reaches(0, frame(1), frame(1)) {
			t.Error("DMA does not pass before translation is enabled")
		}
		tbl := r.attached(firstEdu, 1)
		r.mapRange(tbl, frame(1), frame(2), page, both)
		for range 3 {
			if r.reaches(0, frame(1), frame(1)) || !r.reaches(0, frame(1), frame(2)) {
				t.Error("DMA is not translated")
			}
			r.must(r.unit.Disable(t.Context()))
			if err := r.unit.Invalidate(1, 0, page); !errors.Is(err, vtd.ErrNotEnabled) {
				t.Errorf("invalidating a unit that is off: %v", err)
			}
			if !r.reaches(0, frame(1), frame(1)) || r.reaches(0, frame(1), frame(2)) {
				t.Error("DMA is still translated")
			}
			r.must(r.unit.Disable(t.Context()))
			r.enable()
			r.enable()
		}
		r.noFaults()
	})
}

// TestActive lets a second driver meet a unit that is in use, and take it over
// when it is not any more.
func TestActive(t *testing.T) {
	everyMode(t, func(t *testing.T, md mode) {
		r := newRig(t, md)
		r.attached(firstEdu, 1)
		before := r.frames.Stats().InUse
		if _, err := vtd.Open(r.m.IOMMU(), r.mem, r.frames, vtd.Options{}); !errors.Is(err, vtd.ErrActive) {
			t.Errorf("opening a unit in use: %v", err)
		}
		if got := r.frames.Stats().InUse; got != before {
			t.Errorf("%d frames in use, %d before", got, before)
		}
		r.write(0, 0x5000, 8) // leaves a fault behind
		r.must(r.unit.Close())
		r.must(r.unit.Close())
		u, err := vtd.Open(r.m.IOMMU(), r.mem, r.frames, vtd.Options{Invalidation: md.inv})
		r.must(err)
		defer u.Close()
		r.must(u.Enable(t.Context()))
		if faults, overflow, err := u.Faults(); len(faults) != 0 || overflow || err != nil {
			t.Errorf("old faults: %v %v %v", faults, overflow, err)
		}
	})
}

// TestQueueWraps goes round the queue more than twice, one descriptor and one
// wait each time.
func TestQueueWraps(t *testing.T) {
	for _, qemu := range qemus(t) {
		md := mode{qemu: qemu, width: 48, inv: vtd.InvalidateByQueue}
		t.Run(md.String(), func(t *testing.T) {
			r := newRig(t, md)
			tbl := r.attached(firstEdu, 1)
			for i := range 300 {
				iova := uint64(i+1) * page
				r.mapRange(tbl, iova, frame(1), page, both)
				if i%50 == 0 && !r.reaches(0, iova, frame(1)) {
					t.Fatalf("round %d: not reached", i)
				}
				b := r.unmap(tbl, iova, page)
				r.must(r.unit.Invalidate(1, iova, page))
				r.must(b.Release())
				if i%50 == 0 && r.reaches(0, iova, frame(1)) {
					t.Fatalf("round %d: reached after the invalidation", i)
				}
			}
		})
	}
}

// spoiler is the unit's window; while armed it ruins the descriptor that is
// submitted next.
//
//gommu:maysleep an access is a message over a socket
type spoiler struct {
	*qtest.Window
	ram   []byte
	armed bool
	back  uint64 // how many descriptors before the end
	queue uint64 // IQA as written: QEMU 7.2 does not read back the width
}

func (s *spoiler) Write64(off, v uint64) {
	const iqt, iqa = 0x88, 0x90
	if s.armed && off == iqt {
		s.armed = false
		queue, size := s.queue&^0xfff, uint64(16)<<(s.queue>>11&1)
		at := queue + (v-size*s.back)&0xfff
		s.ram[at] = 0xe | s.ram[at]&0xf0 // a type that does not exist
	}
	if off == iqa {
		s.queue = v
	}
	s.Window.Write64(off, v)
}

func TestQueueError(t *testing.T) {
	for _, qemu := range qemus(t) {
		md := mode{qemu: qemu, width: 48, inv: vtd.InvalidateByQueue}
		t.Run(md.String(), func(t *testing.T) {
			r := newRig(t, md)
			r.must(r.unit.Close())
			regs := &spoiler{Window: r.m.IOMMU(), ram: r.m.RAM(), back: 2}
			u, err := vtd.Open(regs, r.mem, r.frames, vtd.Options{})
			r.must(err)
			r.unit = u
			r.closers = append(r.closers, u.Close)
			tbl := r.attached(firstEdu, 1)
			for range 200 { // over the queue's end, too
				regs.armed = true
				err := u.Invalidate(1, 0x1000, page)
				q, ok := errors.AsType[*vtd.QueueError](err)
				if !ok || !q.Queue || q.Descriptor[0]&0xf != 0xe || q.Descriptor[1] != 0x1000 {
					t.Fatalf("a bad descriptor gives %v", err)
				}
			}
			// The queue works again.
			r.mapRange(tbl, 0x1000, frame(1), page, both)
			if !r.reaches(0, 0x1000, frame(1)) {
				t.Fatal("the mapping does not work")
			}
			b := r.unmap(tbl, 0x1000, page)
			r.must(u.Invalidate(1, 0x1000, page))
			r.must(b.Release())
			if r.reaches(0, 0x1000, frame(1)) {
				t.Error("the device still reaches the page")
			}
			r.must(u.Disable(t.Context()))
		})
	}
}

func TestCachingMode(t *testing.T) {
	everyMode(t, func(t *testing.T, md mode) {
		md.iommu = "caching-mode=on"
		r := newRig(t, md)
		if !r.unit.Capabilities().CachingMode {
			t.Fatal("the unit is not in caching mode")
		}
		r.enable()
		tbl := r.table()
		r.must(r.unit.Attach(firstEdu, 1, tbl))
		r.mapRange(tbl, 0x1000, frame(1), page, both)
		r.must(r.unit.Publish(1, 0x1000, page))
		r.copyThrough(0, 0x1000, frame(1), 0x1800, frame(1)+0x800, 99)
	})
}

// TestEduInterrupt ends transfers by the device's MSI, which is itself a DMA
// write to a mapped word.
func TestEduInterrupt(t *testing.T) {
	for _, qemu := range qemus(t) {
		md := mode{qemu: qemu, width: 48, inv: vtd.InvalidateByQueue}
		t.Run(md.String(), func(t *testing.T) {
			r := newRig(t, md)
			tbl := r.attached(firstEdu, 1)
			r.mapRange(tbl, 0x1000, frame(1), page, both)
			r.mapRange(tbl, 0x2000, frame(2), page, both)
			r.must(r.devices[0].Close())
			f, err := r.m.PCI(eduAddress)
			r.must(err)
			r.enableMSI(f.Config(), 0x2000)
			d, err := edu.Open(f, edu.Options{DMAMask: ^uint64(0), Interrupt: msi{r.word(frame(2))}})
			r.must(err)
			defer d.Close()
			r.devices[0] = d
			for range 10 {
				r.copyThrough(0, 0x1000, frame(1), 0x1400, frame(1)+0x400, 512)
			}
			if v, err := d.Factorial(t.Context(), 10); v != 3628800 || err != nil {
				t.Errorf("10! = %d, %v", v, err)
			}
			// An interrupt that does not arrive.
			b := r.unmap(tbl, 0x2000, page)
			r.must(r.unit.Invalidate(1, 0x2000, page))
			r.must(b.Release())
			if err := d.ReadMemory(t.Context(), 0x1000, 0, 8); !errors.Is(err, edu.ErrNoInterrupt) {
				t.Errorf("a blocked MSI: %v", err)
			}
			r.faults(false, writeFault(vtd.ReasonNoWrite, firstEdu, 0x2000))
		})
	}
}

// TestEduCancelled stops waiting for a transfer.
func TestEduCancelled(t *testing.T) {
	r := newRig(t, mode{qemu: qemus(t)[0], width: 48, inv: vtd.InvalidateByQueue})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.devices[0].ReadMemory(ctx, frame(1), 0, 8); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	r.must(r.devices[0].Idle(t.Context()))
	r.must(r.devices[0].ReadMemory(t.Context(), frame(1), 0, 8))
}

// TestWholeBuffer moves as much as the driver lets pass, at both ends of the
// buffer: one byte more ends QEMU 7.2.
func TestWholeBuffer(t *testing.T) {
	for _, qemu := range qemus(t) {
		r := newRig(t, mode{qemu: qemu, width: 48, inv: vtd.InvalidateByQueue})
		want := r.random(frame(1), edu.MaxTransfer)
		r.must(r.devices[0].ReadMemory(t.Context(), frame(1), 0, edu.MaxTransfer))
		r.must(r.devices[0].WriteMemory(t.Context(), frame(2), edu.MaxTransfer-1, 1))
		r.must(r.devices[0].WriteMemory(t.Context(), frame(3), 0, edu.MaxTransfer))
		if !bytes.Equal(r.bytesAt(frame(3), edu.MaxTransfer), want) || r.bytesAt(frame(2), 1)[0] != want[edu.MaxTransfer-1] {
			t.Error("bytes went astray")
		}
		if err := r.devices[0].ReadMemory(t.Context(), frame(1), 1, edu.MaxTransfer); !errors.Is(err, edu.ErrBuffer) {
			t.Errorf("a transfer to the buffer's end: %v", err)
		}
	}
}

func TestNoFunction(t *testing.T) {
	m := start(t, qtest.Config{QEMU: qemus(t)[0].Path, Devices: []string{eduDevice}})
	for _, a := range []pci.Address{{Device: 5}, {Device: 40}, {Domain: 1, Device: 3}, {Bus: 9}} {
		_, err := m.PCI(a)
		if !errors.Is(err, pci.ErrNotFound) {
			t.Errorf("%v: %v", a, err)
		}
	}
	if m.Err() != nil {
		t.Error(m.Err())
	}
}

// TestFullTables goes through tables that are full at every level, by links whose
// bits 63:52 are zero: pagetable counts entries in use elsewhere. A bus address
// beyond the host address width is a reserved bit.
func TestFullTables(t *testing.T) {
	everyMode(t, func(t *testing.T, md mode) {
		r := newRig(t, md)
		tbl := r.attached(firstEdu, 1)
		r.mapRange(tbl, 0, dataBase+page, 2<<20, both) // pages
		r.mapRange(tbl, 2<<20, 2<<20, 1<<30-2<<20, both)
		full := 2
		if md.width == 48 {
			r.mapRange(tbl, 1<<30, 1<<30, 511<<30, both)
			full = 3
		}
		for e := range tbl.Entries() {
			if !e.Leaf && e.Used == 512 {
				full--
			}
			if !e.Leaf && e.Raw>>52 != 0 {
				t.Errorf("link %#x has bits in 63:52", e.Raw)
			}
		}
		if full != 0 {
			t.Fatalf("%d tables are not full: this case proves nothing", full)
		}
		r.copyThrough(0, 3*page+7, frame(4)+7, 5*page, frame(6), 4000)
		r.copyThrough(0, dataBase+2<<20, dataBase+2<<20, 8*page, frame(9), 4000)

		iova := top(md) &^ (page - 1)
		r.mapRange(tbl, iova, 1<<md.width, page, both)
		r.write(0, iova, 64)
		r.faults(false, writeFault(vtd.ReasonEntryReserved, firstEdu, iova))
	})
}

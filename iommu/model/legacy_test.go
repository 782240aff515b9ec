package model_test

import (
	"bytes"
	"testing"

	"gommu/iommu/model"
)

func TestTranslate(t *testing.T) {
	for _, coherent := range []bool{false, true} {
		r, top := legacy(t, model.Config{Coherent: coherent}, 4)
		d := r.Device(source)
		r.page(top, 0x1234_5678_9000, dataBase, rw)
		r.page(top, 0x1234_5678_a000, dataBase+0x3000, rw)
		want := bytes.Repeat([]byte("device"), 1000)
		if err := d.Write(0x1234_5678_9123, want); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(want))
		if err := d.Read(0x1234_5678_9123, got); err != nil || !bytes.Equal(got, want) {
			t.Errorf("read back differs, %v", err)
		}
		memory := append(r.ram[512*4096+0x123:513*4096:513*4096], r.ram[515*4096:]...)
		if !bytes.HasPrefix(memory, want) {
			t.Error("the device's write is not where the table leads")
		}
		r.lawful()
	}
}

// TestPageSizes checks all sizes at the first and last page they cover.
func TestPageSizes(t *testing.T) {
	for levels := 3; levels <= 5; levels++ {
		for level := 1; level <= 3; level++ {
			r, top := legacy(t, model.Config{Widths: []int{39, 48, 57}}, levels)
			iova := uint64(1) << (12 + 9*levels - 1)
			// Of a superpage, the data page is somewhere in it.
			bus := uint64(dataBase) &^ (1<<(12+9*(level-1)) - 1)
			super := uint64(0)
			if level > 1 {
				super = 1 << 7
			}
			r.put(r.entry(top, levels, iova, level, rw), bus|super|rw)
			r.fill(dataBase)
			r.fill(ramBase + 1023*4096)
			r.reads(r.Device(source), iova+dataBase-bus, dataBase)
			if level == 3 {
				r.reads(r.Device(source), iova+ramBase+1023*4096, ramBase+1023*4096)
			}
			r.cannotRead(r.Device(source), iova+1<<(12+9*(level-1)), 6)
			r.cannotRead(r.Device(source), iova-1, 6)
			r.lawful()
		}
	}
}

// TestRootPointer: it is latched by the command, and caches outlive it unless the
// unit says otherwise.
func TestRootPointer(t *testing.T) {
	for _, enhanced := range []bool{false, true} {
		r, top := legacy(t, model.Config{EnhancedRootPointer: enhanced}, 4)
		r.fill(dataBase)
		r.page(top, 0x5000, dataBase, rw)
		d, cold := r.Device(source), r.Device(source+1)
		r.reads(d, 0x5000, dataBase)
		r.attach(source+1, domain, top, 4)
		r.root = r.frame()
		r.Write64(regRTADDR, r.root)
		r.reads(cold, 0x5000, dataBase) // not latched yet
		r.setRoot(0)
		r.cannotRead(r.Device(source+2), 0x5000, 1)
		if enhanced {
			r.cannotRead(d, 0x5000, 1)
		} else {
			r.reads(d, 0x5000, dataBase)
			r.invalidate(contextInv(global, 0, 0, 0), iotlbInv(global, 0, 0, 0, 0))
			r.cannotRead(d, 0x5000, 1)
		}
		r.lawful()
	}
}

// TestNotCoherent: a walk sees only lines that were flushed, and whole lines.
func TestNotCoherent(t *testing.T) {
	r, top := legacy(t, model.Config{}, 4)
	d := r.Device(source)
	r.fill(dataBase)
	r.page(top, 0x5000, 0, 0) // the tables on the way
	r.lazy = true
	r.page(top, 0x5000, dataBase, rw)
	r.cannotRead(d, 0x5000, 6)
	r.page(top, 0x6000, dataBase, rw)
	r.lazy = false
	r.page(top, 0x7000, dataBase, rw) // the same line
	r.reads(d, 0x5000, dataBase)
	r.reads(d, 0x6000, dataBase)
	r.lazy = true
	r.page(top, 0x8000, dataBase, rw) // the next line
	r.cannotRead(d, 0x8000, 6)
	// A table that was never flushed leads nowhere.
	r.page(top, 0x20_0000, dataBase, rw)
	r.Flushed(r.words[(r.entry(top, 4, 0x20_0000, 2, 0)-ramBase)/8:][:1])
	r.cannotRead(d, 0x20_0000, 0xc)
	r.Flushed(make([]uint64, 4)) // memory of someone else
	r.lawful()
}

// TestWriteBuffer: stores are seen after a flush of the write buffer, or an
// invalidation.
func TestWriteBuffer(t *testing.T) {
	for _, coherent := range []bool{true, false} {
		r, top := legacy(t, model.Config{WriteBufferFlush: true, Coherent: coherent}, 4)
		d := r.Device(source)
		r.fill(dataBase)
		r.page(top, 0x5000, dataBase, rw)
		r.cannotRead(d, 0x5000, 6)
		r.Write32(regGCMD, r.Read32(regGSTS)&^srtp|wbf)
		r.reads(d, 0x5000, dataBase)
		r.page(top, 0x6000, dataBase, rw)
		r.cannotRead(d, 0x6000, 6)
		r.invalidate(iotlbInv(selective, domain+1, 0, 0, 0))
		r.reads(d, 0x6000, dataBase)
		r.lazy = true
		r.page(top, 0x10000, dataBase, rw)
		r.Write32(regGCMD, r.Read32(regGSTS)&^srtp|wbf)
		if coherent {
			r.reads(d, 0x10000, dataBase)
		} else {
			r.cannotRead(d, 0x10000, 6)
		}
		r.lawful()
	}
}

// TestPassThrough: the bus address is the IOVA, and that is cached as well.
func TestPassThrough(t *testing.T) {
	r, top := legacy(t, model.Config{}, 4)
	r.fill(dataBase)
	r.put(r.contextEntry(source), top|1|2<<2)
	d := r.Device(source)
	r.reads(d, dataBase, dataBase)
	r.cannotRead(d, 1<<46, 4)
	if err := d.Read(0, make([]byte, 1)); err == nil {
		t.Error("read where no memory is")
	}
	r.put(r.contextEntry(source), top|1)
	r.invalidate(contextInv(selective, domain, source, 0))
	r.reads(d, dataBase, dataBase)
	r.invalidate(iotlbInv(byDomain, domain, 0, 0, 0))
	r.cannotRead(d, dataBase, 6)
	r.lawful()
}

// TestOff: without translation, DMA goes to memory, but for what is protected.
func TestOff(t *testing.T) {
	r := newRig(t, model.Config{ProtectedMemory: true})
	d := r.Device(source)
	r.fill(dataBase)
	r.reads(d, dataBase, dataBase)
	r.Write32(0x68, 0x20_0000)
	r.Write32(0x6c, 0x20_0000)
	r.Write64(0x70, 1<<40)
	r.Write64(0x78, 1<<41)
	r.Write32(regPMEN, 1<<31)
	if r.Read32(regPMEN) != 1<<31|1 {
		t.Errorf("PMEN %#x", r.Read32(regPMEN))
	}
	r.cannotRead(d, dataBase, 0)
	r.cannotRead(d, 1<<40, 0)
	r.Write32(regPMEN, 0)
	r.reads(d, dataBase, dataBase)
	r.lawful()
}

// TestUnorderedFlushes: between flushes and the fence any of the lines may be
// missing; both orders are seen. After it none is.
func TestUnorderedFlushes(t *testing.T) {
	r, top := legacy(t, model.Config{UnorderedFlushes: true}, 4)
	r.Fenced()
	d := r.Device(source)
	r.fill(dataBase)
	r.page(top, 0, 0, 0) // the tables on the way
	r.Fenced()
	r.cannotRead(d, 0, 6)
	seen := make(map[[2]bool]bool)
	for i := range uint64(32) {
		a, b := i*0x10000, i*0x10000+0x8000
		r.page(top, a, dataBase, rw)
		r.page(top, b, dataBase, rw)
		passed := func(iova uint64) bool {
			defer r.Write32(regFRCD+12, 1<<31)
			return d.Read(iova, make([]byte, 8)) == nil
		}
		seen[[2]bool{passed(a), passed(b)}] = true
		r.lazy = true
		r.page(top, a, dataBase+0x1000, rw) // after the flush: not in what the fence waits for
		r.lazy = false
		r.Fenced()
		r.invalidate(iotlbInv(global, 0, 0, 0, 0))
		r.reads(d, a, dataBase)
		r.reads(d, b, dataBase)
	}
	if len(seen) != 4 {
		t.Errorf("seen %v, want all four", seen)
	}
}

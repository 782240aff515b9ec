package vtd_test

import (
	"sync/atomic"
	"testing"

	"gommu/iommu"
	"gommu/iommu/vtd"
	"gommu/pagetable"
)

// An instant unit is one that is done as soon as it is told: what is measured is
// the driver.
//
//gommu:maysleep it locks while it is enabled
type instant struct {
	*fakeUnit
	status *uint64 // nil until it is enabled
	wait   *[512]uint64
	words  uint64
}

func (i *instant) Write64(off uint64, v uint64) {
	if i.status == nil || off != 0x88 {
		i.fakeUnit.Write64(off, v)
		return
	}
	last := (v/8 - i.words) % 512
	atomic.StoreUint64(i.status, i.wait[last]>>32)
}

// BenchmarkBeginDone is one flush: of a page, of a page on a unit with wide
// descriptors, and on the model, which does the work.
func BenchmarkBeginDone(b *testing.B) {
	for _, c := range []struct {
		name  string
		extra uint64
	}{{"narrow", 0}, {"wide", ecapScalable}} {
		b.Run(c.name, func(b *testing.B) {
			bench := newBench(b)
			bench.extra |= c.extra
			hw := &instant{fakeUnit: bench.fakeUnit, words: 2}
			if c.extra != 0 {
				hw.words = 4
			}
			u, err := vtd.Open(hw, bench.mem, bench.frames, byQueue)
			if err != nil {
				b.Fatal(err)
			}
			d, err := u.BindTable(fakeTable{firstBus, 48})
			if err == nil {
				err = d.Attach(0x18)
			}
			if err == nil {
				err = u.Enable(b.Context())
			}
			if err != nil {
				b.Fatal(err)
			}
			hw.wait = bench.mem.Entries(pagetable.Frame{Bus: bench.queue &^ 0xfff})
			hw.status = &bench.mem.Entries(pagetable.Frame{Bus: hw.wait[(bench.tail*hw.words+512-hw.words)%512+1] &^ 0xfff})[0]
			run(b, d)
			bench.status = 0
			if err := u.Close(); err != nil {
				b.Error(err)
			}
		})
	}
}

func BenchmarkBeginDoneModel(b *testing.B) {
	for _, m := range bindModes {
		b.Run(m.name, func(b *testing.B) { run(b, bindOn(b, m.c, m.mode, m.stage).b) })
	}
}

// BenchmarkDone is a look at a flush that is not done.
func BenchmarkDone(b *testing.B) {
	bench := newBench(b)
	u := bench.enabled(b, byQueue)
	d, err := u.BindTable(fakeTable{firstBus, 48})
	if err != nil {
		b.Fatal(err)
	}
	bench.stuck["queue"] = true
	ticket, err := d.Begin(0x1000, 0x1000, true)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if done, err := d.Done(ticket); done || err != nil {
			b.Fatal(done, err)
		}
	}
}

func run(b *testing.B, d iommu.Binding) {
	b.ReportAllocs()
	for b.Loop() {
		ticket, err := d.Begin(0x1000, 0x1000, true)
		if err != nil {
			b.Fatal(err)
		}
		if done, err := d.Done(ticket); !done || err != nil {
			b.Fatal(done, err)
		}
	}
}

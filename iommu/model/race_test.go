package model_test

import (
	"errors"
	"sync"
	"testing"

	"gommu/iommu/model"
)

// TestTogether: devices issue DMA, also through entries of which accessed and
// dirty bits are set, while the tables change, invalidations run and faults are
// read. What a device reads is one of the two pages that were ever mapped; after
// an invalidation it is the new one.
func TestTogether(t *testing.T) {
	r := scalable(t, model.Config{Coherent: true, FaultRecords: 4})
	first := r.frame()
	r.fill(dataBase)
	r.fill(dataBase + 0x1000)
	r.firstPage(first, 0x5000, dataBase, fAll)
	r.bind(source, 1, pgttFirst, 1, first, snoop)
	r.bind(source, 0, pgttFirst, 1, first, snoop)
	stop := make(chan struct{})
	var all sync.WaitGroup
	for i := range 3 {
		all.Go(func() {
			d, b := r.Device(source), make([]byte, 8)
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				if err := d.ReadPASID(1, 0x5000, b); err == nil {
					if got := words(b)[0]; got != dataBase && got != dataBase+0x1000 {
						t.Errorf("read %#x", got)
						return
					}
				} else if !errors.Is(err, model.ErrBlocked) {
					t.Error(err)
					return
				}
				d.WritePASID(1, 0x5800, b[:i+3])
				r.Read32(regFSTS)
			}
		})
	}
	d := r.Device(source)
	for n := range 3000 {
		r.firstPage(first, 0x5000, 0, 0)
		r.invalidate(pasidIOTLBInv(3, 1, 1, 0x5000, 0, 1))
		if err := d.ReadPASID(1, 0x5000, make([]byte, 8)); !errors.Is(err, model.ErrBlocked) {
			t.Fatalf("round %d: %v", n, err)
		}
		r.firstPage(first, 0x5000, dataBase+uint64(n%2)*0x1000, fAll)
		r.readsPASID(d, 1, 0x5000, dataBase+uint64(n%2)*0x1000)
		r.Write32(regFRCD+12, 1<<31)
	}
	close(stop)
	all.Wait()
	r.lawful()
}

// TestNoAllocation: DMA through cached entries allocates nothing.
func TestNoAllocation(t *testing.T) {
	r, top := legacy(t, model.Config{}, 4)
	r.page(top, 0x5000, dataBase, rw)
	d, b := r.Device(source), make([]byte, 4096)
	if n := testing.AllocsPerRun(100, func() {
		if d.Read(0x5000, b) != nil || d.Write(0x5000, b) != nil {
			t.Error("blocked")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkRead(b *testing.B) {
	for _, size := range []int{8, 4096} {
		b.Run(map[int]string{8: "8B", 4096: "4KiB"}[size], func(b *testing.B) {
			r, top := legacy(b, model.Config{}, 4)
			r.page(top, 0x5000, dataBase, rw)
			d, buf := r.Device(source), make([]byte, size)
			b.ReportAllocs()
			for b.Loop() {
				if err := d.Read(0x5000, buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkInvalidatePage(b *testing.B) {
	r, top := legacy(b, model.Config{}, 4)
	r.page(top, 0x5000, dataBase, rw)
	d, buf := r.Device(source), make([]byte, 8)
	b.ReportAllocs()
	for b.Loop() {
		if err := d.Read(0x5000, buf); err != nil {
			b.Fatal(err)
		}
		r.invalidate(iotlbInv(selective, domain, 0x5000, 0, 1))
	}
}

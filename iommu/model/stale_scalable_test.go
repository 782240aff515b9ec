package model_test

import (
	"strings"
	"testing"

	"gommu/iommu/model"
)

// TestStalePASID: a PASID entry stays until an invalidation of it; the context
// cache is another one.
func TestStalePASID(t *testing.T) {
	for _, c := range []struct {
		name  string
		inv   desc
		fresh bool
	}{
		{"none", desc{}, false},
		{"contexts", contextInv(global, 0, 0, 0), false},
		{"IOTLB", iotlbInv(global, 0, 0, 0, 0), false},
		{"global", pasidInv(3, 0, 0), true},
		{"domain", pasidInv(0, 1, 0), true},
		{"domain it has now", pasidInv(0, 2, 0), false},
		{"PASID", pasidInv(1, 1, 5), true},
		{"other PASID", pasidInv(1, 1, 6), false},
		{"PASID, other domain", pasidInv(1, 2, 5), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := scalable(t, model.Config{Coherent: true})
			old, now := r.frame(), r.frame()
			r.fill(dataBase)
			r.fill(dataBase + 0x1000)
			for _, iova := range []uint64{0x5000, 0x6000} {
				r.page(old, iova, dataBase, rw)
				r.page(now, iova, dataBase+0x1000, rw)
			}
			r.bind(source, 5, pgttSecond, 1, old, snoop)
			d := r.Device(source)
			r.readsPASID(d, 5, 0x5000, dataBase)
			r.bind(source, 5, pgttSecond, 2, now, snoop)
			if c.inv[0] != 0 {
				r.invalidate(c.inv)
			}
			if c.fresh {
				r.readsPASID(d, 5, 0x6000, dataBase+0x1000)
			} else {
				r.readsPASID(d, 5, 0x6000, dataBase)
			}
			r.lawful()
		})
	}
}

// TestStaleFirst: entries of a first stage are tagged with domain and PASID, and
// page invalidations of the two kinds drop what they are for.
func TestStaleFirst(t *testing.T) {
	for _, c := range []struct {
		name          string
		inv           desc
		first, second bool // fresh after it
	}{
		{"none", desc{}, false, false},
		{"page of the PASID", pasidIOTLBInv(3, 1, 5, 0x5000, 0, 0), true, false},
		{"page of the PASID, leaves", pasidIOTLBInv(3, 1, 5, 0x5000, 0, 1), true, false},
		{"page behind", pasidIOTLBInv(3, 1, 5, 0x6000, 0, 0), false, false},
		{"pages", pasidIOTLBInv(3, 1, 5, 0x6000, 2, 0), true, false},
		{"PASID", pasidIOTLBInv(2, 1, 5, 0, 0, 0), true, false},
		{"PASID of the second stage", pasidIOTLBInv(2, 1, 6, 0, 0, 0), false, true},
		{"page of the PASID of the second stage", pasidIOTLBInv(3, 1, 6, 0x5000, 0, 0), false, false},
		{"other PASID", pasidIOTLBInv(2, 1, 7, 0, 0, 0), false, false},
		{"PASID, other domain", pasidIOTLBInv(2, 2, 5, 0, 0, 0), false, false},
		{"page of the second stage", iotlbInv(selective, 1, 0x5000, 0, 0), true, true},
		{"another page of the second stage", iotlbInv(selective, 1, 0x6000, 0, 0), true, false},
		{"page, other domain", iotlbInv(selective, 2, 0x5000, 0, 0), false, false},
		{"domain", iotlbInv(byDomain, 1, 0, 0, 0), true, true},
		{"global", iotlbInv(global, 0, 0, 0, 0), true, true},
		{"PASID cache", pasidInv(3, 0, 0), false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := scalable(t, model.Config{Coherent: true})
			first, second := r.frame(), r.frame()
			for i := range uint64(4) {
				r.fill(dataBase + 0x1000*i)
			}
			r.firstPage(first, 0x5000, dataBase, fAll)
			r.page(second, 0x5000, dataBase+0x1000, rw)
			r.bind(source, 5, pgttFirst, 1, first, snoop)
			r.bind(source, 6, pgttSecond, 1, second, snoop)
			d := r.Device(source)
			r.readsPASID(d, 5, 0x5000, dataBase)
			r.readsPASID(d, 6, 0x5000, dataBase+0x1000)
			r.firstPage(first, 0x5000, dataBase+0x2000, fAll)
			r.page(second, 0x5000, dataBase+0x3000, rw)
			if c.inv[0] != 0 {
				r.invalidate(c.inv)
			}
			want := func(fresh bool, old, now uint64) uint64 {
				if fresh {
					return now
				}
				return old
			}
			r.readsPASID(d, 5, 0x5000, want(c.first, dataBase, dataBase+0x2000))
			r.readsPASID(d, 6, 0x5000, want(c.second, dataBase+0x1000, dataBase+0x3000))
			if v := r.Violations(); len(v) != 1 || !strings.Contains(v[0], "with and without a second stage") {
				t.Errorf("violations %q", v) // one domain id may not have both
			}
		})
	}
}

// TestScalableCachingMode: first stages are exempt from it, PASID and context
// entries are kept under domain 0.
func TestScalableCachingMode(t *testing.T) {
	r := scalable(t, model.Config{Coherent: true, CachingMode: true})
	first, second := r.frame(), r.frame()
	r.fill(dataBase)
	d, b := r.Device(source), make([]byte, 8)
	r.blocked(d.ReadPASID(5, 0x5000, b), 0x59)
	r.bind(source, 5, pgttFirst, 1, first, snoop)
	r.blocked(d.ReadPASID(5, 0x5000, b), 0x59)
	r.invalidate(pasidInv(1, 1, 5))
	r.blocked(d.ReadPASID(5, 0x5000, b), 0x59)
	r.invalidate(pasidInv(1, 0, 5))
	r.blocked(d.ReadPASID(5, 0x5000, b), 0x71)
	r.firstPage(first, 0x5000, dataBase, fAll)
	r.readsPASID(d, 5, 0x5000, dataBase)
	r.bind(source, 6, pgttSecond, 2, second, snoop)
	r.blocked(d.ReadPASID(6, 0x5000, b), 0x79)
	r.page(second, 0x5000, dataBase, rw)
	r.blocked(d.ReadPASID(6, 0x5000, b), 0x79)
	r.invalidate(iotlbInv(selective, 2, 0x5000, 0, 0))
	r.readsPASID(d, 6, 0x5000, dataBase)
	// A first stage's lack of permission is not kept either.
	r.firstPage(first, 0x6000, dataBase, fP|fUS)
	r.blocked(d.WritePASID(5, 0x6000, b), 0x85)
	r.firstPage(first, 0x6000, dataBase, fAll)
	if err := d.WritePASID(5, 0x6000, make([]byte, 1)); err != nil {
		t.Error(err)
	}
	// A wrong entry has domain id 0, whatever is in it.
	r.bind(source, 7, 3, 4, second, snoop)
	r.blocked(d.ReadPASID(7, 0x5000, b), 0x5b)
	r.bind(source, 7, pgttSecond, 2, second, snoop)
	r.invalidate(pasidInv(0, 4, 0), pasidInv(0, 2, 0))
	r.blocked(d.ReadPASID(7, 0x5000, b), 0x5b)
	r.invalidate(pasidInv(0, 0, 0))
	r.fill(dataBase)
	r.readsPASID(d, 7, 0x5000, dataBase)
	late := r.Device(source + 1)
	r.blocked(late.ReadPASID(5, 0, b), 0x41)
	r.admit(source+1, 1<<3)
	r.blocked(late.ReadPASID(5, 0, b), 0x41)
	r.invalidate(contextInv(selective, 0, source+1, 0))
	r.blocked(late.ReadPASID(5, 0, b), 0x59)
	r.lawful()
}

// TestStaleFirstTable: paging-structure entries of a first stage.
func TestStaleFirstTable(t *testing.T) {
	for _, c := range []struct {
		name  string
		inv   desc
		fresh bool
	}{
		{"none", desc{}, false},
		{"leaves", pasidIOTLBInv(3, 1, 5, 0x5000, 0, 1), false},
		{"all levels", pasidIOTLBInv(3, 1, 5, 0x5000, 0, 0), true},
		{"all levels elsewhere", pasidIOTLBInv(3, 1, 5, 1<<39, 0, 0), false},
		{"PASID", pasidIOTLBInv(2, 1, 5, 0, 0, 0), true},
		{"other PASID", pasidIOTLBInv(2, 1, 6, 0, 0, 0), false},
		{"pages of the second stage", iotlbInv(selective, 1, 1<<39, 0, 1), true},
		{"domain", iotlbInv(byDomain, 1, 0, 0, 0), true},
	} {
		r := scalable(t, model.Config{Coherent: true})
		first := r.frame()
		r.fill(dataBase)
		r.fill(dataBase + 0x1000)
		r.firstPage(first, 0x5000, dataBase, fAll)
		r.firstPage(first, 0x6000, dataBase, fAll)
		r.bind(source, 5, pgttFirst, 1, first, snoop)
		d := r.Device(source)
		r.readsPASID(d, 5, 0x5000, dataBase)
		r.put(r.entry(first, 4, 0, 3, fAll), 0)
		r.firstPage(first, 0x6000, dataBase+0x1000, fAll)
		if c.inv[0] != 0 {
			r.invalidate(c.inv)
		}
		if c.fresh {
			r.readsPASID(d, 5, 0x6000, dataBase+0x1000)
		} else {
			r.readsPASID(d, 5, 0x6000, dataBase)
		}
		r.lawful()
		if t.Failed() {
			t.Fatal(c.name)
		}
	}
}

// TestStaleScalableContext: in scalable mode context entries have no domain id.
// Invalidating a domain's drops all, and a device's is by the device.
func TestStaleScalableContext(t *testing.T) {
	for _, c := range []struct {
		inv   desc
		fresh bool
	}{
		{contextInv(byDomain, 99, 0, 0), true},
		{contextInv(selective, 99, source, 0), true},
		{contextInv(selective, 1, source+1, 0), false},
		{pasidInv(3, 0, 0), false},
	} {
		r := scalable(t, model.Config{Coherent: true})
		d, b := r.Device(source), make([]byte, 1)
		r.bind(source, 0, pgttPass, 1, 0, snoop)
		if err := d.Read(dataBase, b); err != nil {
			t.Error(err)
		}
		r.put(r.scalableContext(source), 0)
		r.invalidate(iotlbInv(global, 0, 0, 0, 0))
		if err := d.Read(dataBase, b); err != nil {
			t.Error(err)
		}
		r.invalidate(c.inv, iotlbInv(global, 0, 0, 0, 0))
		if c.fresh {
			r.cannotRead(d, dataBase, 0x41)
		} else if err := d.Read(dataBase, b); err != nil {
			t.Error(err)
		}
		r.lawful()
	}
}

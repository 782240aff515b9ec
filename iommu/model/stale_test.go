package model_test

import (
	"testing"

	"gommu/iommu/model"
)

// TestStalePage: an IOTLB entry stays until an invalidation that covers it.
func TestStalePage(t *testing.T) {
	for _, c := range []struct {
		name  string
		inv   desc
		fresh bool
	}{
		{"none", desc{}, false},
		{"the page", iotlbInv(selective, domain, 0x40_5000, 0, 0), true},
		{"the page, leaves only", iotlbInv(selective, domain, 0x40_5000, 0, 1), true},
		{"the page before", iotlbInv(selective, domain, 0x40_4000, 0, 0), false},
		{"the page behind", iotlbInv(selective, domain, 0x40_6000, 0, 0), false},
		{"the pair", iotlbInv(selective, domain, 0x40_4000, 1, 0), true},
		{"the other pair", iotlbInv(selective, domain, 0x40_6000, 1, 0), false},
		{"the page, other domain", iotlbInv(selective, domain+1, 0x40_5000, 0, 0), false},
		{"domain", iotlbInv(byDomain, domain, 0, 0, 0), true},
		{"other domain", iotlbInv(byDomain, domain+1, 0, 0, 0), false},
		{"global", iotlbInv(global, 0, 0, 0, 0), true},
		{"contexts", contextInv(global, 0, 0, 0), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, top := legacy(t, model.Config{}, 4)
			d := r.Device(source)
			r.fill(dataBase)
			r.fill(dataBase + 0x1000)
			r.page(top, 0x40_5000, dataBase, rw)
			r.reads(d, 0x40_5000, dataBase)
			r.page(top, 0x40_5000, dataBase+0x1000, rw)
			if c.inv[0] != 0 {
				r.invalidate(c.inv)
			}
			if c.fresh {
				r.reads(d, 0x40_5000, dataBase+0x1000)
			} else {
				r.reads(d, 0x40_5000, dataBase)
			}
			r.lawful()
		})
	}
}

// TestStalePermission: permissions are cached with a translation that was let
// through, and with one that was not only in caching mode.
func TestStalePermission(t *testing.T) {
	for _, cm := range []bool{false, true} {
		r, top := legacy(t, model.Config{CachingMode: cm}, 4)
		d, b := r.Device(source), []byte{1}
		r.page(top, 0x5000, dataBase, 1)
		r.blocked(d.Write(0x5000, b), 5)
		r.page(top, 0x5000, dataBase, rw)
		if cm {
			r.blocked(d.Write(0x5000, b), 5)
			r.invalidate(iotlbInv(selective, domain, 0x5000, 0, 1))
		}
		if err := d.Write(0x5000, b); err != nil {
			t.Error(err)
		}
		r.page(top, 0x5000, dataBase, 2)
		if err := d.Read(0x5000, b); err != nil {
			t.Error(err)
		}
		r.invalidate(iotlbInv(selective, domain, 0x5000, 0, 1))
		r.cannotRead(d, 0x5000, 6)
		if err := d.Write(0x5000, b); err != nil {
			t.Error(err)
		}
		r.page(top, 0x5000, dataBase, rw)
		r.cannotRead(d, 0x5000, 6)
		r.invalidate(iotlbInv(selective, domain, 0x5000, 0, 1))
		if err := d.Read(0x5000, b); err != nil {
			t.Error(err)
		}
		r.lawful()
	}
}

// TestStaleSuperpage: any page of a superpage drops all of it; the wider table
// entries stay for a page elsewhere.
func TestStaleSuperpage(t *testing.T) {
	r, top := legacy(t, model.Config{}, 4)
	d := r.Device(source)
	for i := range uint64(512) {
		r.put(dataBase+4096*i, dataBase+4096*i)
	}
	const bus = 0x20_0000 // 2 MiB aligned; data pages are behind it
	r.put(r.entry(top, 4, 0x60_0000, 2, rw), bus|1<<7|rw)
	r.reads(d, 0x60_0000+dataBase-bus, dataBase)
	r.put(r.entry(top, 4, 0x60_0000, 2, rw), 0)
	r.reads(d, 0x60_0000+dataBase-bus+0x5000, dataBase+0x5000)
	r.invalidate(iotlbInv(selective, domain, 0x80_0000, 9, 0), iotlbInv(selective, domain, 0x40_0000, 9, 0))
	r.reads(d, 0x60_0000+dataBase-bus+0x6000, dataBase+0x6000)
	r.invalidate(iotlbInv(selective, domain, 0x7f_f000, 0, 0))
	r.cannotRead(d, 0x60_0000+dataBase-bus, 6)
}

// TestStaleTable: paging-structure entries of every level stay until an
// invalidation that is not for leaves only.
func TestStaleTable(t *testing.T) {
	for level := 2; level <= 4; level++ {
		for _, c := range []struct {
			name  string
			inv   desc
			fresh bool
		}{
			{"none", desc{}, false},
			{"leaves", iotlbInv(selective, domain, 0x40_5000, 0, 1), false},
			{"all levels", iotlbInv(selective, domain, 0x40_5000, 0, 0), true},
			{"all levels, a page elsewhere in the table", iotlbInv(selective, domain, 0x40_7000, 0, 0), true},
			{"all levels, beyond the top's entry", iotlbInv(selective, domain, 1<<39, 0, 0), false},
			{"domain", iotlbInv(byDomain, domain, 0, 0, 0), true},
		} {
			r, top := legacy(t, model.Config{}, 4)
			d := r.Device(source)
			r.fill(dataBase)
			r.fill(dataBase + 0x1000)
			r.fill(dataBase + 0x2000)
			r.page(top, 0x40_5000, dataBase, rw)
			r.page(top, 0x40_6000, dataBase+0x1000, rw)
			r.reads(d, 0x40_5000, dataBase)
			// Another subtree behind the entry, in which the page is elsewhere.
			r.put(r.entry(top, 4, 0x40_5000, level, rw), 0)
			r.page(top, 0x40_6000, dataBase+0x2000, rw)
			if c.inv[0] != 0 {
				r.invalidate(c.inv)
			}
			// This page was not in the IOTLB.
			if c.fresh {
				r.reads(d, 0x40_6000, dataBase+0x2000)
			} else {
				r.reads(d, 0x40_6000, dataBase+0x1000)
			}
			if t.Failed() {
				t.Fatalf("level %d, %s", level, c.name)
			}
			r.lawful()
		}
	}
}

// TestStaleContext: a context entry stays until an invalidation of it.
func TestStaleContext(t *testing.T) {
	for _, c := range []struct {
		name  string
		inv   desc
		fresh bool
	}{
		{"none", desc{}, false},
		{"IOTLB", iotlbInv(global, 0, 0, 0, 0), false},
		{"global", contextInv(global, 0, 0, 0), true},
		{"domain", contextInv(byDomain, domain, 0, 0), true},
		{"domain it has now", contextInv(byDomain, domain+1, 0, 0), false},
		{"device", contextInv(selective, domain, source, 0), true},
		{"device, domain it has now", contextInv(selective, domain+1, source, 0), false},
		{"other function", contextInv(selective, domain, source^1, 0), false},
		{"other function, masked", contextInv(selective, domain, source^7, 3), true},
		{"other function, not all masked", contextInv(selective, domain, source^7, 2), false},
		{"function bit 2, masked", contextInv(selective, domain, source^4, 1), true},
		{"other device, masked", contextInv(selective, domain, source^8, 3), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, top := legacy(t, model.Config{}, 4)
			d := r.Device(source)
			other := r.frame()
			r.fill(dataBase)
			r.fill(dataBase + 0x1000)
			for _, iova := range []uint64{0x5000, 0x6000} {
				r.page(top, iova, dataBase, rw)
				r.page(other, iova, dataBase+0x1000, rw)
			}
			r.reads(d, 0x5000, dataBase)
			r.attach(source, domain+1, other, 4)
			if c.inv[0] != 0 {
				r.invalidate(c.inv)
			}
			if c.fresh {
				r.reads(d, 0x6000, dataBase+0x1000)
			} else {
				r.reads(d, 0x6000, dataBase)
			}
			r.lawful()
		})
	}
}

// TestStaleDevice: what the IOTLB has of a device outlives its context entry, and
// is tagged with the domain id that it had.
func TestStaleDevice(t *testing.T) {
	r, top := legacy(t, model.Config{}, 4)
	d, other := r.Device(source), r.frame()
	r.fill(dataBase)
	r.fill(dataBase + 0x1000)
	r.page(top, 0x5000, dataBase, rw)
	r.page(other, 0x5000, dataBase+0x1000, rw)
	r.reads(d, 0x5000, dataBase)
	r.attach(source, domain+1, other, 4)
	r.invalidate(contextInv(global, 0, 0, 0))
	r.reads(d, 0x5000, dataBase)
	r.invalidate(iotlbInv(byDomain, domain+1, 0, 0, 0))
	r.reads(d, 0x5000, dataBase)
	r.invalidate(iotlbInv(byDomain, domain, 0, 0, 0))
	r.reads(d, 0x5000, dataBase+0x1000)
	r.put(r.contextEntry(source), 0)
	r.invalidate(contextInv(global, 0, 0, 0))
	r.reads(d, 0x5000, dataBase+0x1000)
	r.invalidate(iotlbInv(byDomain, domain+1, 0, 0, 0))
	r.cannotRead(d, 0x5000, 2)
	r.lawful()
}

// TestSharedDomain: the paging-structure caches do not tell tables apart that
// share a domain id.
func TestSharedDomain(t *testing.T) {
	for _, shared := range []bool{true, false} {
		r, top := legacy(t, model.Config{}, 4)
		other := r.frame()
		id := uint64(domain)
		if !shared {
			id++
		}
		r.attach(source+1, id, other, 4)
		r.fill(dataBase)
		r.fill(dataBase + 0x1000)
		r.page(top, 0x5000, dataBase, rw)
		r.page(other, 0x5000, dataBase+0x1000, rw)
		r.reads(r.Device(source), 0x5000, dataBase)
		if shared {
			r.reads(r.Device(source+1), 0x5000, dataBase)
		} else {
			r.reads(r.Device(source+1), 0x5000, dataBase+0x1000)
		}
		if v := r.Violations(); len(v) > 0 != shared {
			t.Errorf("violations %q", v)
		}
	}
}

// TestCachingMode: what was not present is remembered, contexts under domain 0.
func TestCachingMode(t *testing.T) {
	for _, cm := range []bool{false, true} {
		r, top := legacy(t, model.Config{CachingMode: cm}, 4)
		r.fill(dataBase)
		d := r.Device(source)
		r.cannotRead(d, 0x5000, 6)
		r.page(top, 0x5000, dataBase, rw)
		if !cm {
			r.reads(d, 0x5000, dataBase)
		} else {
			r.cannotRead(d, 0x5000, 6)
			r.invalidate(iotlbInv(selective, domain, 0x5000, 0, 1)) // a table was missing, not a leaf
			r.cannotRead(d, 0x5000, 6)
			r.invalidate(iotlbInv(selective, domain, 0x5000, 0, 0))
			r.reads(d, 0x5000, dataBase)
			r.cannotRead(d, 0x6000, 6)
			r.page(top, 0x6000, dataBase, rw)
			r.cannotRead(d, 0x6000, 6)
			r.invalidate(iotlbInv(selective, domain, 0x6000, 0, 1))
			r.reads(d, 0x6000, dataBase)
		}
		late := r.Device(source + 1)
		r.cannotRead(late, 0x5000, 2)
		r.attach(source+1, domain, top, 4)
		if cm {
			r.cannotRead(late, 0x5000, 2)
			r.invalidate(contextInv(selective, domain, source+1, 0))
			r.cannotRead(late, 0x5000, 2)
			r.invalidate(contextInv(selective, 0, source+1, 0))
		}
		r.reads(late, 0x5000, dataBase)
		r.lawful()
	}
}

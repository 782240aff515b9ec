package model_test

import (
	"errors"
	"testing"

	"gommu/iommu/model"
)

func deviceInv(source, addr, size uint64) desc {
	return desc{3 | source<<32, addr | size}
}

func pasidDeviceInv(source, pasid, addr, size, everyPASID uint64) desc {
	return desc{8 | source<<16 | pasid<<32, addr | size<<11 | everyPASID}
}

// TestDeviceTLB: a device's own entries outlive the unit's, until they are
// invalidated as widely as needed.
func TestDeviceTLB(t *testing.T) {
	for _, c := range []struct {
		name  string
		inv   desc
		fresh bool
	}{
		{"IOTLB only", desc{}, false},
		{"the page", deviceInv(source, 0x5000, 0), true},
		{"the page before", deviceInv(source, 0x4000, 0), false},
		{"the pair", deviceInv(source, 0x4000, 1), true},
		{"other pair", deviceInv(source, 0x6000, 1), false},
		{"four pages", deviceInv(source, 0x5000, 1), true},
		{"other four pages", deviceInv(source, 0x9000, 1), false},
		{"everything", deviceInv(source, 0xffff_ffff_ffff_f000, 1), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, top := legacy(t, model.Config{DeviceTLB: true}, 4)
			r.fill(dataBase)
			r.fill(dataBase + 0x1000)
			r.put(r.contextEntry(source), top|1|1<<2)
			r.page(top, 0x5000, dataBase, rw)
			d := r.Device(source)
			d.SetATS(true)
			r.reads(d, 0x5000, dataBase)
			r.page(top, 0x5000, dataBase+0x1000, rw)
			r.invalidate(iotlbInv(global, 0, 0, 0, 0))
			if c.inv[0] != 0 {
				r.invalidate(c.inv)
			}
			if c.fresh {
				r.reads(d, 0x5000, dataBase+0x1000)
			} else {
				r.reads(d, 0x5000, dataBase)
			}
			d.SetATS(false)
			r.reads(d, 0x5000, dataBase+0x1000)
			r.lawful()
		})
	}
}

// TestPASIDDeviceTLB is the same for entries with PASID, which only their own
// kind of invalidation drops.
func TestPASIDDeviceTLB(t *testing.T) {
	for _, c := range []struct {
		name  string
		inv   desc
		fresh bool
	}{
		{"none", desc{}, false},
		{"without PASID", deviceInv(source, 0x5000, 0), false},
		{"the PASID", pasidDeviceInv(source, 1, 0x5000, 0, 0), true},
		{"all of the PASID", pasidDeviceInv(source, 1, 0x7fff_ffff_ffff_f000, 1, 0), true},
		{"other PASID", pasidDeviceInv(source, 2, 0x5000, 0, 0), false},
		{"every PASID", pasidDeviceInv(source, 2, 0x5000, 0, 1), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := scalable(t, model.Config{DeviceTLB: true, Coherent: true})
			r.fill(dataBase)
			r.fill(dataBase + 0x1000)
			e := r.scalableContext(source)
			r.put(e, r.get(e)|1<<2)
			first := r.frame()
			r.bind(source, 1, pgttFirst, 1, first, snoop)
			r.firstPage(first, 0x5000, dataBase, fAll)
			d := r.Device(source)
			d.SetATS(true)
			r.readsPASID(d, 1, 0x5000, dataBase)
			r.firstPage(first, 0x5000, dataBase+0x1000, fAll)
			r.invalidate(pasidIOTLBInv(2, 1, 1, 0, 0, 0))
			if c.inv[0] != 0 {
				r.invalidate(c.inv)
			}
			if c.fresh {
				r.readsPASID(d, 1, 0x5000, dataBase+0x1000)
			} else {
				r.readsPASID(d, 1, 0x5000, dataBase)
			}
			// A read got no permission to write: the page has to be marked dirty first.
			if err := d.WritePASID(1, 0x5000, make([]byte, 8)); err != nil || r.get(r.entry(first, 4, 0x5000, 1, 0))&fD == 0 {
				t.Errorf("%v; the page is not dirty", err)
			}
			r.lawful()
		})
	}
}

// TestDeviceTLBRequests: what the context entry does not allow is a fault, also
// for translated requests; a missing translation is none.
func TestDeviceTLBRequests(t *testing.T) {
	r, top := legacy(t, model.Config{DeviceTLB: true}, 4)
	d, b := r.Device(source), make([]byte, 8)
	d.SetATS(true)
	faulted := func(err error, reason uint8, kind uint64) {
		t.Helper()
		var e *model.DMAError
		if !errors.As(err, &e) || e.Reason != reason {
			t.Errorf("%v, want reason %#x", err, reason)
		}
		want := 1<<63 | 1<<62 | kind<<60 | uint64(reason)<<32 | source
		if got := r.Read64(regFRCD + 8); got != want {
			t.Errorf("record %#x, want %#x", got, want)
		}
		r.Write32(regFRCD+12, 1<<31)
	}
	faulted(d.Read(0x5000, b), 0xd, 1)
	r.put(r.contextEntry(source), top|1|1<<2)
	r.invalidate(contextInv(global, 0, 0, 0))
	if err := d.Read(0x5000, b); err == nil || r.Read32(regFSTS) != 0 {
		t.Errorf("%v, FSTS %#x", err, r.Read32(regFSTS))
	}
	r.page(top, 0x5000, dataBase, 1)
	if err := d.Read(0x5000, b); err != nil {
		t.Error(err)
	}
	if err := d.Write(0x5000, b); err == nil || r.Read32(regFSTS) != 0 {
		t.Errorf("%v, FSTS %#x", err, r.Read32(regFSTS))
	}
	r.page(top, 0x7000, 1<<46, 3)
	faulted(d.Read(0x7000, b), 0xc, 1)
	r.put(r.contextEntry(source), top|1)
	r.invalidate(contextInv(global, 0, 0, 0))
	faulted(d.Read(0x5000, b), 0xd, 2) // in its TLB
	r.lawful()
}

// TestDeviceTimeout: a device that does not answer ends the wait with ITE. What
// was asked behind it is not done; after clearing, the queue goes on.
func TestDeviceTimeout(t *testing.T) {
	r, top := legacy(t, model.Config{DeviceTLB: true}, 4)
	d := r.Device(source)
	r.fill(dataBase)
	r.page(top, 0x5000, dataBase, rw)
	r.reads(d, 0x5000, dataBase)
	r.page(top, 0x5000, 0, 0)
	for range 2 {
		d.SetATS(true)
		d.SetMute(true)
		r.push(deviceInv(source, 0, 0), iotlbInv(global, 0, 0, 0, 0), r.wait())
		if r.done() || r.Read32(regFSTS) != 1<<6 || r.Read64(regIQH) != r.tail || r.Read64(regIQERCD) != source<<32 {
			t.Errorf("FSTS %#x, head %#x, tail %#x, IQERCD %#x", r.Read32(regFSTS), r.Read64(regIQH), r.tail, r.Read64(regIQERCD))
		}
		head := r.tail
		r.push(r.wait())
		if r.done() || r.Read64(regIQH) != head {
			t.Error("the queue went on in spite of the error")
		}
		r.Write32(regFSTS, 1<<6)
		if !r.done() || r.Read32(regFSTS) != 0 {
			t.Errorf("FSTS %#x after clearing", r.Read32(regFSTS))
		}
		d.SetMute(false)
		r.invalidate(deviceInv(source, 0, 0))
	}
	d.SetATS(false)
	r.reads(d, 0x5000, dataBase)
	r.push(deviceInv(source, 0, 0), r.wait())
	if r.done() || r.Read32(regFSTS) != 1<<6 {
		t.Errorf("a device without TLB answers; FSTS %#x", r.Read32(regFSTS))
	}
	r.lawful()
}

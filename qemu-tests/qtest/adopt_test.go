//go:build linux

package qtest_test

import (
	"testing"

	"gommu/iommu/vtd"
)

// TestAdopt takes a unit over that another driver has left on.
func TestAdopt(t *testing.T) {
	everyMode(t, func(t *testing.T, md mode) {
		r := newRig(t, md)
		r.mapRange(r.attached(firstEdu, 1), 0x1000, frame(1), page, both)
		if !r.reaches(0, 0x1000, frame(1)) {
			t.Fatal("the mapping does not work")
		}
		r.must(r.unit.Invalidate(1, 0x5000, page))
		u, err := vtd.Open(r.m.IOMMU(), r.mem, r.frames, vtd.Options{Invalidation: md.inv, Adopt: true})
		r.must(err)
		defer func() { r.must(u.Close()) }()
		if got, ok := u.Adopted(); !ok || !got.Translating || got.Queued != (md.inv == vtd.InvalidateByQueue) || got.Root == 0 {
			t.Errorf("%+v", got)
		}
		if !r.reaches(0, frame(5), frame(5)) {
			t.Error("DMA does not pass untranslated until Enable")
		}
		two := r.table()
		r.mapRange(two, 0x1000, frame(2), page, both)
		r.must(u.Attach(firstEdu, 1, two))
		r.must(u.Enable(t.Context()))
		if r.reaches(0, 0x1000, frame(1)) || !r.reaches(0, 0x1000, frame(2)) {
			t.Error("the device does not go through the new table")
		}
	})
}

// TestFaultEvents reads faults as they come.
func TestFaultEvents(t *testing.T) {
	everyMode(t, func(t *testing.T, md mode) {
		r := newRig(t, md)
		r.attached(firstEdu, 1)
		next := uint64(0x5000)
		r.write(0, next, 8)
		for e, err := range r.unit.FaultEvents(t.Context()) {
			r.must(err)
			if e.Fault != writeFault(vtd.ReasonNoWrite, firstEdu, next) || e.Lost {
				t.Errorf("%+v", e)
			}
			if next += page; next == 0x8000 {
				break
			}
			r.write(0, next, 8)
		}
	})
}

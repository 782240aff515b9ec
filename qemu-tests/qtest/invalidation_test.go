//go:build linux

package qtest_test

import (
	"errors"
	"testing"

	"gommu/iommu/vtd"
	"gommu/pagetable"
)

// queueModes runs a case on units with queues of both widths of descriptors.
func queueModes(t *testing.T, iommu string, f func(t *testing.T, md mode)) {
	for _, qemu := range qemus(t) {
		for name, md := range map[string]mode{
			"128":             {},
			"256":             {iommu: "x-scalable-mode=on"},
			"256 in scalable": {iommu: "x-scalable-mode=on", vtd: vtd.Scalable},
		} {
			md.qemu, md.width, md.inv = qemu, 48, vtd.InvalidateByQueue
			if iommu != "" && md.iommu != "" {
				md.iommu += ","
			}
			md.iommu += iommu
			t.Run(qemu.Version+"/"+name, func(t *testing.T) { f(t, md) })
		}
	}
}

// TestSubmit tells real units everything that can be told: none stops at it.
func TestSubmit(t *testing.T) {
	queueModes(t, "device-iotlb=on", func(t *testing.T, md mode) {
		r := newRig(t, md)
		r.must(r.unit.SetDeviceTLB(firstEdu, &vtd.DeviceTLB{QueueDepth: 3}))
		tbl := r.attached(firstEdu, 1)
		r.mapRange(tbl, 0x1000, frame(1), page, both)
		all := []vtd.Invalidation{
			vtd.AllContexts(), vtd.DomainContexts(1), vtd.DeviceContexts(1, firstEdu, 0), vtd.DeviceContexts(1, firstEdu, 3),
			vtd.Fence(), vtd.AllTranslations(), vtd.DomainTranslations(1), vtd.Pages(1, 0x1000, 0, true), vtd.Pages(1, 0, 18, false),
			vtd.Fence(), vtd.DevicePages(firstEdu, 0x1000, 0), vtd.DevicePages(firstEdu, 0, 52), vtd.AllInterrupts(), vtd.Interrupts(8, 3),
		}
		if md.vtd == vtd.Scalable {
			all = append(all, vtd.AllPASIDs(), vtd.DomainPASIDs(1), vtd.OnePASID(1, 0), vtd.PASIDTranslations(1, 0), vtd.PASIDPages(1, 0, 0x1000, 0, true))
		}
		r.must(r.unit.Submit(t.Context(), all...))
		for i := range all {
			r.must(r.unit.Submit(t.Context(), all[i]))
		}
		r.must(r.unit.Invalidate(1, 0x1000, page))
		r.must(r.unit.InvalidateAll())
		if !r.reaches(0, 0x1000, frame(1)) {
			t.Error("the mapping does not work")
		}
		if got := r.unit.Stats(); got.BadDescriptors != 0 {
			t.Errorf("%+v", got)
		}
	})
}

// TestEveryMask drops each power of two of pages, and not the next page.
func TestEveryMask(t *testing.T) {
	queueModes(t, "", func(t *testing.T, md mode) {
		r := newRig(t, md)
		tbl := r.attached(firstEdu, 1)
		for order := range r.unit.Capabilities().MaxAddressMask + 1 {
			iova := uint64(1) << 30 // more than every order
			last, next := iova+1<<(12+order)-page, iova+1<<(12+order)
			r.mapRange(tbl, last, frame(1), page, both)
			r.mapRange(tbl, next, frame(2), page, both)
			if !r.reaches(0, last, frame(1)) || !r.reaches(0, next, frame(2)) {
				t.Fatalf("order %d: the mapping does not work", order)
			}
			b := r.unmap(tbl, last, page+page)
			r.must(r.unit.Submit(t.Context(), vtd.Pages(1, iova, order, false)))
			if r.reaches(0, last, frame(1)) {
				t.Errorf("order %d: the last page is reached", order)
			}
			// 7.2 keeps the mask in 8 bits and drops the whole domain for more.
			if dropped := !r.reaches(0, next, frame(2)); dropped && (order < 8 || firstStage(md.qemu)) {
				t.Errorf("order %d: the page behind was dropped", order)
			}
			r.must(r.unit.InvalidateDomain(1))
			r.must(b.Release())
			r.drainFaults()
		}
	})
}

// TestBadDescriptorInBatch ruins one descriptor of several: the others are done.
func TestBadDescriptorInBatch(t *testing.T) {
	queueModes(t, "", func(t *testing.T, md mode) {
		r := newRig(t, md)
		r.must(r.unit.Close())
		regs := &spoiler{Window: r.m.IOMMU(), ram: r.m.RAM(), back: 3}
		u, err := vtd.Open(regs, r.mem, r.frames, vtd.Options{Mode: md.vtd})
		r.must(err)
		r.unit = u
		r.closers = append(r.closers, u.Close)
		tbl := r.attached(firstEdu, 1)
		for round := range 100 {
			at := []uint64{0x1000, 0x9000, 0x11000} // the second is ruined
			var ranges []vtd.Range
			for i, iova := range at {
				r.mapRange(tbl, iova, frame(i), page, both)
				if round%20 == 0 && !r.reaches(0, iova, frame(i)) {
					t.Fatal("the mapping does not work")
				}
				ranges = append(ranges, vtd.Range{Domain: 1, IOVA: iova, Size: page})
			}
			var batches []*pagetable.Batch
			for _, iova := range at {
				batches = append(batches, r.unmap(tbl, iova, page))
			}
			regs.armed = true
			err := u.InvalidateRanges(ranges...)
			q, ok := errors.AsType[*vtd.QueueError](err)
			if !ok || !q.Queue || q.Descriptor[1] != 0x9000 {
				t.Fatalf("a bad descriptor gives %v", err)
			}
			if round%20 == 0 {
				if r.reaches(0, 0x1000, frame(0)) || r.reaches(0, 0x11000, frame(2)) {
					t.Error("a good invalidation was lost")
				}
				if !r.reaches(0, 0x9000, frame(1)) {
					t.Error("the bad invalidation was done: this case proves nothing")
				}
			}
			r.must(u.Invalidate(1, 0x9000, page))
			for _, b := range batches {
				r.must(b.Release())
			}
			r.drainFaults()
		}
	})
}

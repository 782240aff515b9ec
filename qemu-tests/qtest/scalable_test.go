//go:build linux

package qtest_test

import (
	"bytes"
	"strings"
	"testing"

	"gommu/iommu/vtd"
	"gommu/pagetable"
	"gommu/qemu-tests/provision"
)

// A stage of scalable mode that this QEMU's unit can be given.
type scalable struct {
	mode
	stage pagetable.Stage
}

// scalableModes runs a case with each stage that each QEMU has: its unit walks
// either, as it was started, and 7.2 only the second.
func scalableModes(t *testing.T, f func(t *testing.T, md scalable)) {
	for _, qemu := range qemus(t) {
		for _, stage := range []pagetable.Stage{pagetable.SecondStage, pagetable.FirstStage} {
			name, iommu := "second", "x-scalable-mode=on"
			if stage == pagetable.FirstStage {
				name, iommu = "first", "x-scalable-mode=on,x-flts=on"
			}
			t.Run(qemu.Version+"/"+name, func(t *testing.T) {
				if stage == pagetable.FirstStage && !firstStage(qemu) {
					t.Skipf("QEMU %s walks no first-stage tables; 10.0 does", qemu.Version)
				}
				f(t, scalable{mode{qemu: qemu, width: 48, inv: vtd.InvalidateByQueue, iommu: iommu, vtd: vtd.Scalable}, stage})
			})
		}
	}
}

func firstStage(q provision.QEMU) bool { return !strings.HasPrefix(q.Version, "7.") }

// staged makes an empty table of a stage.
func (r *rig) staged(s pagetable.Stage) *pagetable.Table {
	r.t.Helper()
	opts, err := r.unit.TableOptions(s)
	r.must(err)
	tbl, err := pagetable.New(r.mem, r.frames, opts)
	r.must(err)
	r.afterUnit(tbl.Close)
	return tbl
}

func TestScalable(t *testing.T) {
	scalableModes(t, func(t *testing.T, md scalable) {
		md.second = true
		r := newRig(t, md.mode)
		one, two := r.staged(md.stage), r.staged(md.stage)
		r.must(r.unit.Attach(firstEdu, 1, one))
		r.enable()
		r.must(r.unit.Attach(secondEdu, 2, two))
		r.mapRange(one, 0x1000, frame(1), page, both)
		r.mapRange(one, 0x2000, frame(2), page, both)
		r.mapRange(two, 0x1000, frame(3), page, both)
		r.copyThrough(0, 0x1000, frame(1), 0x2000, frame(2), 300)
		if r.reaches(1, 0x1000, frame(1)) || !r.reaches(1, 0x1000, frame(3)) {
			t.Error("a device goes through the other's table")
		}

		// The unit caches, and each way of invalidating is one.
		for name, f := range map[string]func() error{
			"page":  func() error { return r.unit.Invalidate(1, 0x1000, page) },
			"range": func() error { return r.unit.Invalidate(1, 0, 1<<40) },
			"leaves": func() error {
				return r.unit.InvalidateRanges(vtd.Range{Domain: 1, IOVA: 0x1000, Size: page, LeavesOnly: true})
			},
			"domain": func() error { return r.unit.InvalidateDomain(1) },
			"all":    r.unit.InvalidateAll,
		} {
			if !r.reaches(0, 0x1000, frame(1)) {
				t.Errorf("%s: the mapping does not work", name)
			}
			b := r.unmap(one, 0x1000, page)
			if !r.reaches(0, 0x1000, frame(1)) {
				t.Errorf("%s: the unit cached nothing: this case proves nothing", name)
			}
			r.must(r.unit.Invalidate(2, 0x1000, page))
			if !r.reaches(0, 0x1000, frame(1)) {
				t.Errorf("%s: an invalidation of something else dropped the entry", name)
			}
			r.must(f())
			if r.reaches(0, 0x1000, frame(1)) {
				t.Errorf("%s: the device still reaches the page", name)
			}
			r.must(b.Release())
			r.mapRange(one, 0x1000, frame(1), page, both)
		}
		r.drainFaults()

		r.must(r.unit.Detach(firstEdu))
		if r.reaches(0, 0x1000, frame(1)) || !r.reaches(1, 0x1000, frame(3)) {
			t.Error("the wrong device was detached")
		}
		faults := r.drainFaults()
		if len(faults) != 1 || faults[0].Source != firstEdu || !strings.Contains(faults[0].Reason.String(), "entry") {
			t.Errorf("faults %v", faults)
		}
		r.must(r.unit.Attach(firstEdu, 2, two))
		if !r.reaches(0, 0x1000, frame(3)) {
			t.Error("the device does not go through its new table")
		}
		r.must(r.unit.Disable(t.Context()))
		if !r.reaches(0, frame(5), frame(5)) {
			t.Error("DMA is still translated")
		}
		r.enable()
		if r.reaches(0, frame(5), frame(5)) || !r.reaches(0, 0x1000, frame(3)) {
			t.Error("DMA is not translated")
		}
	})
}

// drainFaults takes what the unit recorded.
func (r *rig) drainFaults() []vtd.Fault {
	r.t.Helper()
	faults, _, err := r.unit.Faults()
	r.must(err)
	return faults
}

// TestPassThrough lets one device through and the other not.
func TestPassThrough(t *testing.T) {
	modes := func(t *testing.T, f func(t *testing.T, md mode)) {
		everyMode(t, f)
		scalableModes(t, func(t *testing.T, md scalable) { f(t, md.mode) })
	}
	modes(t, func(t *testing.T, md mode) {
		md.second = true
		r := newRig(t, md)
		r.must(r.unit.Attach(firstEdu, 7, vtd.PassThrough))
		r.enable()
		want := r.random(frame(1), 64)
		r.read(0, frame(1), 64)
		r.write(0, frame(2), 64)
		if !bytes.Equal(r.bytesAt(frame(2), 64), want) {
			t.Error("the device does not reach what it passes through to")
		}
		r.noFaults()
		if r.reaches(1, frame(2), frame(2)) {
			t.Error("the other device passes, too")
		}
		r.drainFaults()
		r.must(r.unit.Detach(firstEdu))
		if r.reaches(0, frame(2), frame(2)) {
			t.Error("a detached device passes")
		}
	})
}

// TestWideQueueWraps goes round the queue of wide descriptors.
func TestWideQueueWraps(t *testing.T) {
	scalableModes(t, func(t *testing.T, md scalable) {
		r := newRig(t, md.mode)
		one := r.staged(md.stage)
		r.must(r.unit.Attach(firstEdu, 1, one))
		r.enable()
		for i := range 150 {
			r.mapRange(one, 0x3000, frame(1), page, both)
			if i%30 == 0 && !r.reaches(0, 0x3000, frame(1)) {
				t.Fatalf("round %d: not reached", i)
			}
			r.must(r.unit.Flush(1, r.unmap(one, 0x3000, page)))
			if i%30 == 0 && r.reaches(0, 0x3000, frame(1)) {
				t.Fatalf("round %d: reached after the invalidation", i)
			}
		}
	})
}

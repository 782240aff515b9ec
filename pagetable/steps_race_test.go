//go:build race

package pagetable

import (
	"testing"

	"gommu/internal/cacheline"
)

// atEachStep plays try once for each pause of call, with other run at that pause.
// try makes both, and what looks at the outcome.
func atEachStep(t *testing.T, try func(t *testing.T) (call, other, look func())) {
	t.Helper()
	for at, reached := 0, true; reached; at++ {
		call, other, look := try(t)
		n := 0
		pauseHook = func() {
			if n++; n == at+1 {
				pauseHook = nil
				other()
			}
		}
		call()
		pauseHook = nil
		if reached = n > at; reached {
			look()
		}
		if t.Failed() {
			t.Fatalf("at step %d", at)
		}
	}
}

// A harvest meets a superpage that another call cuts at the same time: the marks
// are told once, of the whole or of the parts.
func TestHarvestDuringCut(t *testing.T) {
	atEachStep(t, func(t *testing.T) (call, other, look func()) {
		r := newRig(t, 8)
		tbl := r.table(t, Options{Stage: FirstStage})
		mustMap(t, tbl, gib1, 0, mib2, Read|Write)
		seen := map[uint64]int{}
		call = func() {
			var b Batch
			err := tbl.Harvest(gib1, 8*kib4, true, &b, func(a Access) {
				for at := a.IOVA; at < a.IOVA+a.Size; at += kib4 {
					seen[at]++
				}
			})
			if err != nil || b.Release() != nil {
				t.Error(err)
			}
		}
		other = func() { mustUnmap(t, tbl, gib1+mib2-kib4, kib4) }
		look = func() {
			for at := uint64(gib1); at < gib1+8*kib4; at += kib4 {
				if seen[at] != 1 {
					t.Errorf("marks of %#x told %d times", at, seen[at])
				}
			}
		}
		return call, other, look
	})
}

// An unmap of nothing unlinks a table that others emptied meanwhile: what it
// flushed is fenced when it returns.
func TestUnmapOfNothingFences(t *testing.T) {
	atEachStep(t, func(t *testing.T) (call, other, look func()) {
		r := newRig(t, 8)
		tbl := r.table(t, Options{})
		mustMap(t, tbl, gib1+mib2+8*kib4, 0, kib4, Read)
		pending := false
		call = func() {
			stopFlush := cacheline.Watch(func([]uint64) { pending = true })
			stopFence := cacheline.WatchFence(func() { pending = false })
			defer func() { stopFlush(); stopFence() }()
			var b Batch
			if n, err := tbl.Unmap(gib1+mib2-kib4, 2*kib4, &b); n != 0 || err != nil {
				t.Error(n, err)
			}
			if pending {
				t.Error("Unmap returns before what it flushed is fenced")
			}
			if err := b.Release(); err != nil {
				t.Error(err)
			}
		}
		other = func() { mustUnmap(t, tbl, gib1+mib2+8*kib4, kib4) }
		look = func() {
			if n := r.pool.Stats().InUse; n != 1 {
				t.Errorf("%d frames in use", n)
			}
		}
		return call, other, look
	})
}

//go:build race

package pagetable

import "testing"

// A map finds a dead table in its way. At each of its steps in turn, whoever
// killed the table comes to unlink it, invalidates and releases, and a third call uses the
// same frame in the same place again: that table must not be replaced as
// the dead one.
func TestMapOverDeadTableUsedAgain(t *testing.T) {
	again, reached := 0, true
	for at := 0; reached; at++ {
		func() {
			r := newRig(t, 16)
			tbl := r.table(t, Options{})
			mustMap(t, tbl, gib1, 0, kib4, Read)
			dead := tableOf(tbl, gib1)
			rest := paused(t, tbl, gib1)
			n := 0
			pauseHook = func() {
				if n++; n != at+1 {
					return
				}
				pauseHook = nil
				var b Batch
				rest(&b)
				if b.Tables() == 0 {
					t.Errorf("step %d: the invalidation leaves tables out", at)
				}
				if err := b.Release(); err != nil {
					t.Error(err)
				}
				mustMap(t, tbl, gib1+2*kib4, 2*kib4, kib4, Read)
				if tableOf(tbl, gib1+2*kib4) == dead {
					again++
				}
			}
			err := tbl.Map(gib1+kib4, kib4, kib4, Write)
			pauseHook = nil
			if reached = n > at; !reached { // it has no more steps
				mustMap(t, tbl, gib1+2*kib4, 2*kib4, kib4, Read)
				var b Batch
				rest(&b)
				if err := b.Release(); err != nil {
					t.Error(err)
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, iova := range []uint64{gib1 + kib4, gib1 + 2*kib4} {
				if l, ok := tbl.Lookup(iova); !ok || l.Bus != iova-gib1 {
					t.Errorf("step %d: Lookup(%#x) = %+v, %v", at, iova, l, ok)
				}
			}
			mustUnmap(t, tbl, gib1, mib2)
			if n := r.pool.Stats().InUse; n != 1 {
				t.Errorf("step %d: %d frames in use, want 1", at, n)
			}
		}()
	}
	if again == 0 {
		t.Error("the frame was never used again: this proves nothing")
	}
}

// tableOf is the table of pages that translates iova.
func tableOf(tbl *Table, iova uint64) (f Frame) {
	for e := range tbl.Entries() {
		if e.Level == 0 && e.IOVA == iova {
			f = e.Table
		}
	}
	return f
}

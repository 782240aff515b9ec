package pagetable

import (
	"slices"
	"testing"
)

// Batches that are added up ask for what each asked for, and give all frames back, in whatever
// order and with how many frames.
func TestBatchAdd(t *testing.T) {
	for _, tables := range [][]int{{0, 0}, {0, 3}, {3, 0}, {1, 1}, {4, 1, 0, 2}, {2, 5, 3}} {
		r := newRig(t, 64)
		tbl := r.table(t, Options{})
		mustMap(t, tbl, 1<<40, 0, kib4, Read)
		var all Batch
		at, sum := uint64(gib1), 0
		mustMap(t, tbl, 2*gib1-kib4, 0, kib4, Read) // keeps the tables above
		base := tbl.Stats().Tables
		for _, n := range tables {
			var b Batch
			first, size := at, uint64(max(n, 1))*mib2
			for range max(n, 1) {
				mustMap(t, tbl, at, kib4, mib2-kib4*uint64(1-min(n, 1)), Read)
				at += mib2
			}
			if n == 0 { // another page keeps the table
				mustMap(t, tbl, at-kib4, 0, kib4, Read)
				size -= kib4
			}
			if _, err := tbl.Unmap(first, size, &b); err != nil {
				t.Fatal(err)
			}
			lo, hi, _ := all.Range()
			if all.Empty() {
				lo = first
			}
			if err := all.Add(&b); err != nil {
				t.Fatal(err)
			}
			sum += n
			newLo, newHi, ok := all.Range()
			if !b.Empty() || b.Tables() != 0 || all.Tables() != sum || !ok || newLo != lo || newHi < max(hi, first+size-1) {
				t.Errorf("%v: %d tables, invalidate %#x to %#x; left over: %+v", tables, all.Tables(), newLo, newHi, b)
			}
			if err := all.Add(&b); err != nil || all.Tables() != sum {
				t.Errorf("adding nothing: %v", err)
			}
		}
		if err := all.Release(); err != nil || !all.Empty() {
			t.Error(err)
		}
		zeros := 0
		for _, n := range tables {
			if n == 0 {
				zeros++
			}
		}
		if s := tbl.Stats(); r.pool.Stats().InUse != s.Tables || s.Tables != base+zeros {
			t.Errorf("%v: %d frames in use by %+v", tables, r.pool.Stats().InUse, s)
		}
	}
}

// Tables whose frames come in a later batch are added up, too.
func TestBatchAddElsewhere(t *testing.T) {
	a, b := Batch{}, Batch{elsewhere: 2}
	r := newRig(t, 8)
	b.touch(r.table(t, Options{}), 0, kib4-1)
	if err := a.Add(&b); err != nil || a.Tables() != 2 || b.Tables() != 0 {
		t.Errorf("%v, %d and %d tables", err, a.Tables(), b.Tables())
	}
}

func TestBatchAddRefuses(t *testing.T) {
	r := newRig(t, 16)
	tbl, other := r.table(t, Options{}), r.table(t, Options{})
	var a, b Batch
	for tbl, b := range map[*Table]*Batch{tbl: &a, other: &b} {
		mustMap(t, tbl, 0, 0, kib4, Read)
		if _, err := tbl.Unmap(0, kib4, b); err != nil {
			t.Fatal(err)
		}
	}
	before := slices.Clone(r.raw)
	wasA, wasB := a, b
	for _, o := range []*Batch{nil, &a, &b} {
		if err := a.Add(o); !isErr(err, ErrBatch) {
			t.Errorf("%v", err)
		}
	}
	if a != wasA || b != wasB || !slices.Equal(before, r.raw) {
		t.Error("a refused Add changed something")
	}
	if a.Release() != nil || b.Release() != nil {
		t.Error("not released")
	}
}

// A batch on the stack stays there.
func TestBatchNoAllocs(t *testing.T) {
	r := newRig(t, 16)
	tbl := r.table(t, Options{})
	mustMap(t, tbl, 1<<40, 0, kib4, Read)
	var all Batch
	n := testing.AllocsPerRun(100, func() {
		var b Batch
		err := tbl.Hold(0, mib2, 0)
		if err == nil {
			err = tbl.Map(mib2, 0, 2*kib4, Read)
		}
		if err == nil {
			_, err = tbl.Protect(mib2, kib4, Write, &b)
		}
		if err == nil {
			err = tbl.Harvest(mib2, kib4, true, &b, func(Access) {})
		}
		if err == nil {
			_, err = tbl.Merge(mib2, mib2, &b)
		}
		if err == nil {
			_, err = tbl.Unmap(mib2, kib4, &b)
		}
		if err == nil {
			_, err = tbl.UnmapEach(mib2+kib4, kib4, &b, func(_, _, _ uint64) {})
		}
		if err == nil {
			err = tbl.Unhold(0, mib2, 0, &b)
		}
		if err == nil {
			err = all.Add(&b)
		}
		if err != nil || all.Tables() == 0 || all.Release() != nil {
			t.Error(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

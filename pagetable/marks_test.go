package pagetable

import (
	"slices"
	"testing"
)

// What was unmapped cannot be mapped again until it is unmarked, and what was not marked can.
func TestMarks(t *testing.T) {
	for _, opts := range allOptions {
		opts.Marks = true
		t.Run(opts.name(), func(t *testing.T) {
			r := newRig(t, 32)
			tbl := r.table(t, opts)
			var b Batch
			mustMap(t, tbl, gib1, kib4, mib2, Read)
			stats := tbl.Stats()
			if n, err := tbl.Unmap(gib1+8*kib4, 2*kib4, &b); n != 2*kib4 || err != nil {
				t.Fatal(n, err)
			}
			if n, err := tbl.Unmap(gib1+8*kib4, 2*kib4, &b); n != 0 || err != nil {
				t.Errorf("marks were unmapped: %#x, %v", n, err)
			}
			stats.Leaves4K -= 2
			if s := tbl.Stats(); s != stats {
				t.Errorf("marks count: %+v, want %+v", s, stats)
			}
			if l, ok := tbl.Lookup(gib1 + 8*kib4); ok {
				t.Errorf("Lookup finds a mark: %+v", l)
			}
			if n := len(slices.Collect(tbl.All())); n != stats.Leaves4K {
				t.Errorf("All has %d leaves", n)
			}
			before := slices.Clone(r.raw)
			for name, err := range map[string]error{
				"map":     tbl.Map(gib1+9*kib4, 0, kib4, Read),
				"extents": tbl.MapExtents(gib1+9*kib4, []Extent{{0, kib4}}, Read),
			} {
				checkMarked(t, name, err, gib1+9*kib4)
			}
			if err := tbl.Map(gib1+9*kib4, 0, 2*kib4, Read); !isErr(err, ErrMarked) {
				t.Errorf("a mark before a page: %v", err)
			}
			if err := tbl.Map(gib1+7*kib4, 0, 2*kib4, Read); !isErr(err, ErrOverlap) {
				t.Errorf("a page before a mark: %v", err)
			}
			if !slices.Equal(before, r.raw) {
				t.Error("a failed map changed something")
			}
			if err := tbl.Unmark(gib1+9*kib4, mib2); err != nil {
				t.Error(err)
			}
			checkMarked(t, "map", tbl.Map(gib1+8*kib4, 0, kib4, Read), gib1+8*kib4)
			mustMap(t, tbl, gib1+9*kib4, 0, kib4, Read)
			if err := b.Release(); err != nil {
				t.Error(err)
			}
		})
	}
}

func checkMarked(t *testing.T, op string, err error, at uint64) {
	t.Helper()
	if oe, _ := err.(*OpError); oe == nil || oe.Err != ErrMarked || oe.At != at {
		t.Errorf("%s: %v, want %v at %#x", op, err, ErrMarked, at)
	}
}

// A table with nothing but marks leaves the tree: the entry for it is marked then, and stands for the
// call that emptied it.
func TestMarksOfTables(t *testing.T) {
	r := newRig(t, 32)
	tbl := r.table(t, Options{Marks: true})
	var b Batch
	unmap := func(iova, size uint64) {
		t.Helper()
		if _, err := tbl.Unmap(iova, size, &b); err != nil {
			t.Fatal(err)
		}
	}
	unmark := func(iova, size uint64) {
		t.Helper()
		if err := tbl.Unmark(iova, size); err != nil {
			t.Fatal(err)
		}
	}
	mustMap(t, tbl, gib1, 0, 4*kib4, Read)
	unmap(gib1, 2*kib4)
	unmap(gib1+2*kib4, 2*kib4)
	if s := tbl.Stats(); s != (Stats{Tables: 1}) || b.Tables() != 3 {
		t.Errorf("%+v, %d tables in the batch", s, b.Tables())
	}
	checkMarked(t, "map nearby", tbl.Map(300*gib1, 0, kib4, Read), 300*gib1)
	checkMarked(t, "hold nearby", tbl.Hold(300*gib1, mib2, 0), 300*gib1)
	unmark(gib1, 2*kib4)
	checkMarked(t, "map before the last unmap's flush", tbl.Map(gib1, 0, kib4, Read), gib1)
	unmark(gib1+3*kib4, gib1)
	checkMarked(t, "map before the last unmap's flush", tbl.Map(gib1, 0, kib4, Read), gib1)
	unmark(gib1+2*kib4, kib4)
	if err := b.Release(); err != nil {
		t.Error(err)
	}

	// Hold and Unhold.
	if err := tbl.Hold(gib1, 2*mib2, 0); err != nil {
		t.Fatal(err)
	}
	mustMap(t, tbl, gib1, kib4, mib2, Read)
	unmap(gib1, mib2)
	if b.Tables() != 0 {
		t.Errorf("%d tables in the batch", b.Tables())
	}
	checkMarked(t, "map in a held table", tbl.Map(gib1+kib4, 0, mib2, Read), gib1+kib4)
	unmark(gib1, mib2)
	mustMap(t, tbl, gib1+kib4, 0, kib4, Read)
	if err := tbl.Unhold(gib1, 2*mib2, 0, &b); err != nil || b.Tables() != 1 {
		t.Errorf("%v, %d tables in the batch", err, b.Tables())
	}
	checkMarked(t, "hold after unhold", tbl.Hold(gib1, 2*mib2, 0), gib1+mib2)
	first, last, _ := b.Range()
	unmark(first, last-first+1)
	if err := tbl.Hold(gib1, 2*mib2, 0); err != nil {
		t.Error(err)
	}
	if err := b.Release(); err != nil {
		t.Error(err)
	}
}

// Who has not asked for marks pays nothing and may unmark.
func TestUnmarkWithoutMarks(t *testing.T) {
	r := newRig(t, 8)
	tbl := r.table(t, Options{})
	mustMap(t, tbl, 0, 0, kib4, Read)
	before := slices.Clone(r.raw)
	if err := tbl.Unmark(0, 1<<48); err != nil || !slices.Equal(before, r.raw) {
		t.Errorf("%v", err)
	}
	mustUnmap(t, tbl, 0, kib4)
	mustMap(t, tbl, 0, 0, kib4, Read)
	if err := tbl.Unmark(1, kib4); !isErr(err, ErrMisaligned) {
		t.Errorf("%v", err)
	}
	if err := tbl.Close(); err != nil {
		t.Error(err)
	}
	if err := tbl.Unmark(0, kib4); !isErr(err, ErrClosed) {
		t.Errorf("%v", err)
	}
}

func TestMarksNoAllocs(t *testing.T) {
	for _, opts := range formats {
		opts.Marks = true
		r := newRig(t, 16)
		tbl := r.table(t, opts)
		n := testing.AllocsPerRun(100, func() {
			var b Batch
			err := tbl.Map(gib1-kib4, 0, 2*kib4, Read)
			if err == nil {
				_, err = tbl.Unmap(gib1-kib4, kib4, &b)
			}
			if err == nil {
				_, err = tbl.Unmap(gib1, kib4, &b)
			}
			if err == nil {
				err = tbl.Unmark(gib1-kib4, 2*kib4)
			}
			if err != nil || b.Release() != nil {
				t.Error(err)
			}
		})
		if n != 0 {
			t.Errorf("%v allocations", n)
		}
	}
}

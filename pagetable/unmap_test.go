package pagetable

import (
	"errors"
	"slices"
	"testing"
)

func TestUnmapRefuses(t *testing.T) {
	r := newRig(t, 16)
	tbl, other := r.table(t, Options{AddressWidth: 39}), r.table(t, Options{})
	mustMap(t, tbl, gib1, gib1, gib1, Read)
	mustMap(t, tbl, 2*mib2, 0, 2*mib2, Read)
	mustMap(t, other, 0, 0, kib4, Read)
	var b, foreign Batch
	if _, err := other.Unmap(0, kib4, &foreign); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name       string
		iova, size uint64
		b          *Batch
		want       error
		at         uint64
		text       string
	}{
		{"zero", kib4, 0, &b, ErrZeroSize, 0, "pagetable: unmap iova 0x1000 size 0x0: size is zero"},
		{"zero at zero", 0, 0, &b, ErrZeroSize, 0, "pagetable: unmap: size is zero"},
		{"iova", 1, kib4, &b, ErrMisaligned, 0, ""},
		{"size", 0, kib4 + 1, &b, ErrMisaligned, 0, ""},
		{"beyond", 1 << 39, kib4, &b, ErrRange, 0, ""},
		{"ends beyond", 1<<39 - kib4, 2 * kib4, &b, ErrRange, 0, ""},
		{"wraps", 1<<64 - kib4, 2 * kib4, &b, ErrRange, 0, ""},
		{"no batch", 0, kib4, nil, ErrBatch, 0, ""},
		{"other's batch", 0, kib4, &foreign, ErrBatch, 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := slices.Clone(r.raw)
			n, err := tbl.Unmap(c.iova, c.size, c.b)
			want := OpError{Op: "unmap", IOVA: c.iova, Size: c.size, At: c.at, Err: c.want}
			var got *OpError
			if !errors.As(err, &got) || *got != want || n != 0 {
				t.Errorf("%d, %v, want %v", n, err, &want)
			}
			if c.text != "" && err.Error() != c.text {
				t.Errorf("%q", err)
			}
			if !slices.Equal(before, r.raw) || !b.Empty() {
				t.Error("something changed")
			}
		})
	}
	if err := foreign.Release(); err != nil {
		t.Error(err)
	}
	if n := mustUnmap(t, tbl, 0, 1<<39); n != gib1+2*mib2 {
		t.Errorf("unmapped %#x", n)
	}
}

// A unit that still has the link to an unlinked table cached walks it until
// the invalidation. The batch's own words in it lead it nowhere; it finds no
// more than what was mapped.
func TestBatchLinksAreNotPresent(t *testing.T) {
	r := newRig(t, 600)
	tbl := r.table(t, Options{})
	for i := range uint64(8) { // tables of pages, each cleared entry by entry, then unlinked
		mustMap(t, tbl, i*mib2, kib4, 4*kib4, Read)
	}
	mustMap(t, tbl, gib1, kib4, gib1, Read) // 512 tables that go as a whole
	_, before, err := r.walker(tbl).scan()
	if err != nil {
		t.Fatal(err)
	}
	var b Batch
	for i := range uint64(8) {
		for p := range uint64(4) {
			if _, err := tbl.Unmap(i*mib2+p*kib4, kib4, &b); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := tbl.Unmap(gib1, gib1, &b); err != nil {
		t.Fatal(err)
	}
	_, after, err := r.walker(tbl).scan()
	if err != nil {
		t.Fatal(err)
	}
	gone := 0
	for table := range before {
		if after[table] {
			continue
		}
		gone++
		w := r.walkerAt(Frame{table}, 1, false)
		if e, err := w.word(table); err != nil || w.present(e) {
			t.Errorf("table %#x: the link %#x is present (%v)", table, e, err)
		}
		// Walked as a stale table of pages or, the few that were, of tables:
		// every word is what it was, or not present.
		for i := uint64(1); i < 512; i++ {
			e, _ := w.word(table + 8*i)
			if w.present(e) && e&0xfff != 1 && e&0xfff != 3 {
				t.Fatalf("table %#x word %d is %#x", table, i, e)
			}
		}
	}
	// Both leaf tables and the directories above them; the root stays.
	if want := 8 + 512 + 2 + 1; gone != want || b.Tables() != want {
		t.Errorf("%d tables left the tree, the batch has %d, want %d", gone, b.Tables(), want)
	}
	if first, last, ok := b.Range(); first > 0 || last != 2*gib1-1 || !ok {
		t.Errorf("range %#x to %#x, %v", first, last, ok)
	}
	if err := b.Release(); err != nil {
		t.Error(err)
	}
	if b.Tables() != 0 || !b.Empty() || r.pool.Stats().InUse != 1 {
		t.Errorf("after Release: %d tables, %d frames in use", b.Tables(), r.pool.Stats().InUse)
	}
	if err := b.Release(); err != nil {
		t.Error(err)
	}
}

// Unmapping nothing leaves nothing to invalidate; unmapping leaves alone leaves
// no table to forget.
func TestBatchSaysWhatToInvalidate(t *testing.T) {
	r := newRig(t, 8)
	tbl := r.table(t, Options{})
	mustMap(t, tbl, gib1, 0, 16*kib4, Read)
	var b Batch
	if n, err := tbl.Unmap(0, gib1, &b); n != 0 || err != nil || !b.Empty() {
		t.Errorf("hole: %d, %v, %v", n, err, b)
	}
	if n, err := tbl.Unmap(gib1+20*kib4, kib4, &b); n != 0 || err != nil || !b.Empty() {
		t.Errorf("hole in a table: %d, %v", n, err)
	}
	if n, err := tbl.Unmap(gib1+kib4, kib4, &b); n != kib4 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if first, last, ok := b.Range(); first != gib1+kib4 || last != gib1+2*kib4-1 || !ok || b.Tables() != 0 {
		t.Errorf("%#x to %#x, %v, %d tables", first, last, ok, b.Tables())
	}
	if _, err := tbl.Unmap(gib1+5*kib4, kib4, &b); err != nil {
		t.Error(err)
	}
	if first, last, _ := b.Range(); first != gib1+kib4 || last != gib1+6*kib4-1 {
		t.Errorf("%#x to %#x", first, last)
	}
	if n, err := tbl.Unmap(gib1, gib1, &b); n != 14*kib4 || err != nil || b.Tables() != 3 {
		t.Errorf("%d, %v, %d tables", n, err, b.Tables())
	}
	if err := b.Release(); err != nil {
		t.Error(err)
	}
}

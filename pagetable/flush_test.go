package pagetable

import (
	"testing"

	"gommu/internal/cacheline"
)

// Whoever made a table may be stopped before the flush of the link to it. Each
// call that relies on the link flushes it too, and only then.
func TestUnflushedLinks(t *testing.T) {
	const base = gib1 // of a table that is there, with entries of others in it
	var b Batch
	for name, call := range map[string]func(tbl *Table) error{
		"map":         func(tbl *Table) error { return tbl.Map(base+kib4, 0, kib4, Read) },
		"map extents": func(tbl *Table) error { return tbl.MapExtents(base+kib4, []Extent{{0, kib4}, {0, kib4}}, Read) },
		"map across":  func(tbl *Table) error { return tbl.Map(base-kib4, 0, 2*kib4, Read) },
		"unmap":       func(tbl *Table) error { _, err := tbl.Unmap(base+8*kib4, kib4, &b); return err },
		"unmap each": func(tbl *Table) error {
			_, err := tbl.UnmapEach(base+8*kib4, kib4, &b, func(_, _, _ uint64) {})
			return err
		},
		"unmap across": func(tbl *Table) error { _, err := tbl.Unmap(base-kib4, 10*kib4, &b); return err },
		"protect":      func(tbl *Table) error { _, err := tbl.Protect(base+8*kib4, kib4, Read, &b); return err },
	} {
		for _, stopped := range []bool{false, true} {
			r := newRig(t, 16)
			tbl := r.table(t, Options{})
			mustMap(t, tbl, base+8*kib4, 0, 2*kib4, Read|Write)
			mustMap(t, tbl, base+gib1, 0, kib4, Read)
			var link *uint64
			for e := range tbl.Entries() {
				if !e.Leaf && e.Level == 1 && e.IOVA == base {
					link = &r.mem.Entries(e.Table)[e.Index]
					if stopped {
						r.mem.uses(e.Bus).word.And(^uint64(linkSeen))
					}
				}
			}
			at, flushed := offset(r.raw, link), false
			stop := cacheline.Watch(func(words []uint64) {
				first := offset(r.raw, &words[0]) &^ (cacheline.Size - 1)
				flushed = flushed || first <= at && at < offset(r.raw, &words[len(words)-1])+8
			})
			err := call(tbl)
			stop()
			if err != nil || flushed != stopped {
				t.Errorf("%s: the link was flushed: %v, want %v (%v)", name, flushed, stopped, err)
			}
			mustUnmap(t, tbl, 0, 1<<40)
			if err := b.Release(); err != nil {
				t.Error(err)
			}
		}
	}
}

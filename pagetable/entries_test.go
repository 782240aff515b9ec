package pagetable

import "testing"

// What is mapped all the time is seen, also if tables are merged after their links
// were read: to 2 MiB and at once to 1 GiB.
func TestAllDuringMerge(t *testing.T) {
	for _, opts := range allOptions {
		for _, size := range []uint64{mib2, gib1} {
			if size == gib1 && opts.No1G || opts.No2M {
				continue
			}
			r := newRig(t, 520)
			tbl := r.table(t, opts)
			mustMap(t, tbl, 0, 3*kib4, kib4, Read)
			for at := size; at < 2*size; at += size / 2 { // in two, so that there is a table
				for page := at; size == mib2 && page < at+size/2; page += kib4 {
					mustMap(t, tbl, page, 4*gib1+page, kib4, Read)
				}
				if size == gib1 {
					mustMap(t, tbl, at, 4*gib1+at, size/2, Read)
				}
			}
			next, merged := uint64(0), 0
			for l := range tbl.All() {
				if l.IOVA == 0 {
					var b Batch
					n, err := tbl.Merge(size, size, &b)
					if merged = n; err != nil || b.Release() != nil {
						t.Fatal(err)
					}
					next = size
					continue
				}
				if l.IOVA != next || l.Bus != 4*gib1+l.IOVA || l.Prot != Read {
					t.Errorf("%s: All has %+v, want one at %#x", opts.name(), l, next)
				}
				next = l.IOVA + l.Size
			}
			if merged == 0 || next != 2*size {
				t.Errorf("%s: %d merged, All ends at %#x, want %#x", opts.name(), merged, next, 2*size)
			}
			mustUnmap(t, tbl, 0, 2*size)
		}
	}
}

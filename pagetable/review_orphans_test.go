package pagetable

import "testing"

// "An Unmap leaves no table to its batch" in held tables (Hold): not those that a failed Map of somebody else has unlinked
// either. Who unmaps there has no place for them (iommu), and invalidates the leaves of his own range only.
func TestHeldUnmapLeavesOrphans(t *testing.T) {
	r := newRig(t, 16)
	tbl := r.table(t, Options{})
	const held, other = 8 * gib1, 9 * gib1 // other has the slot of held
	for _, at := range []uint64{held, other} {
		if err := tbl.Hold(at, mib2, 0); err != nil {
			t.Fatal(err)
		}
	}
	mustMap(t, tbl, held, 0, kib4, Read)
	mustMap(t, tbl, gib1, 0, kib4, Read)
	paused(t, tbl, gib1)(nil) // a Map that failed while the last page there was unmapped
	var b Batch
	if _, err := tbl.Unmap(held, kib4, &b); err != nil {
		t.Fatal(err)
	}
	if first, last, _ := b.Range(); b.Tables() != 0 || first != held || last != held+kib4-1 {
		t.Errorf("the batch has %d tables, of %#x to %#x", b.Tables(), first, last)
	}
	_ = b.Release()
	for _, at := range []uint64{held, other} {
		if err := tbl.Unhold(at, mib2, 0, &b); err != nil {
			t.Error(err)
		}
	}
	if err := b.Release(); err != nil {
		t.Error(err)
	}
	if err := tbl.Close(); err != nil {
		t.Error(err)
	}
}

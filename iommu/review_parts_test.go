package iommu_test

import (
	"testing"

	"gommu/iommu"
)

// What was unmapped and waits for its flush does not keep a region of a list open: Close flushes first.
func TestCloseRegionOfUnmappedList(t *testing.T) {
	r := newUnit(t, settings[0])
	d, err := iommu.New(t.Context(), r.mem, r.tables(settings[0].stage), batched(1000))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.CloseForced(t.Context()); err != nil {
			t.Log(err)
		}
	})
	a, err := d.Register(t.Context(), r.data(0, 4*page), iommu.Bidirectional)
	want(t, err, nil)
	b, err := d.Register(t.Context(), r.data(8*page, 4*page), iommu.Bidirectional)
	want(t, err, nil)
	m, _, err := d.MapSG([][]byte{r.data(0, page), r.data(8*page, page)}, iommu.Bidirectional, iommu.ListLimits{}, make([]iommu.Piece, 4))
	want(t, err, nil)
	want(t, b.Close(), iommu.ErrMapped)
	want(t, d.Unmap(m), nil)
	want(t, b.Close(), nil)
	want(t, a.Close(), nil)
	want(t, d.Close(t.Context()), nil)
}

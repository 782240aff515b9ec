package iommu_test

import (
	"errors"
	"testing"

	"gommu/iommu"
)

// A mapping is reached with its data at its IOVA, and no more once it was unmapped strictly.
func TestStrict(t *testing.T) {
	for _, s := range settings {
		t.Run(s.name, func(t *testing.T) {
			r := newRig(t, s, iommu.Options{})
			for i := range 400 {
				mem := r.data(i*page/3+i, 1+i*37%9000)
				dir := iommu.Direction(1 + i%3)
				m, err := r.d.Map(mem, dir)
				if err != nil {
					t.Fatal(err)
				}
				if m.Size() != uint64(len(mem)) {
					t.Errorf("size %d of %d bytes", m.Size(), len(mem))
				}
				r.copies(m, mem, dir, s.name)
				last := m.IOVA() + m.Size() - 1
				if err := r.d.Unmap(m); err != nil {
					t.Fatal(err)
				}
				r.blocked(m.IOVA())
				r.blocked(last)
			}
			if err := r.d.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// Who has found a region before Close has hidden it maps nothing of it.
func TestMapOfClosingRegion(t *testing.T) {
	r := instantRig(t, iommu.Options{Flush: iommu.Flush{Policy: iommu.Batched}}, false)
	r.region.SetClosing(true)
	if m, err := r.d.Map(r.data(0, page), iommu.ToDevice); !errors.Is(err, iommu.ErrNotRegistered) {
		t.Errorf("mapped %v, %v", m, err)
	}
	r.region.SetClosing(false)
	if live := r.d.Live(); len(live) != 0 {
		t.Errorf("live: %v", live)
	}
}

package iommu_test

import (
	"testing"

	"gommu/iommu"
)

// With Check on, nothing is reported of what is right, with each policy.
func TestCheckIsQuiet(t *testing.T) {
	for _, s := range settings {
		t.Run(s.name, func(t *testing.T) {
			o := batched(16)
			o.Check = true
			r := newRig(t, s, o)
			ring := newRing(t, r.d, iommu.RingOptions{Burst: 8})
			for i := range 200 {
				m := r.mapped(r.data(i*page, 2*page), iommu.Bidirectional)
				want(t, r.d.Unmap(m), nil)
				n, err := ring.Map(r.data(i*page, 2*page), iommu.Bidirectional)
				want(t, err, nil)
				want(t, ring.Unmap(n), nil)
			}
			want(t, ring.Close(), nil)
			want(t, r.d.Close(t.Context()), nil)
		})
	}
}

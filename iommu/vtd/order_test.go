package vtd_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"gommu/iommu/vtd"
)

// TestScalableOrder says which invalidations a PASID table entry needs with its
// context entry, and alone (section 6.5.3.3, table 28).
func TestScalableOrder(t *testing.T) {
	first := stagedTable{goodTable}
	for _, c := range []struct {
		name                          string
		capability                    uint64
		attach, second, detach, empty []string
	}{
		{"plain", 0, nil, nil,
			[]string{"pasid 1 did 8 pasid 0x9", "iotlb 2 did 8 pasid 0x9"},
			[]string{"context 3 did 7 sid 0x18", "pasid 0 did 7 pasid 0x0", "iotlb 2 did 7 drain 3"}},
		{"caching", capCM,
			[]string{"context 3 did 0 sid 0x18", "pasid 0 did 0 pasid 0x0", "pasid 0 did 7 pasid 0x0", "iotlb 2 did 7 drain 3"},
			[]string{"pasid 1 did 0 pasid 0x9", "pasid 1 did 8 pasid 0x9", "iotlb 2 did 8 pasid 0x9"},
			[]string{"pasid 1 did 8 pasid 0x9", "iotlb 2 did 8 pasid 0x9"},
			[]string{"context 3 did 7 sid 0x18", "pasid 0 did 7 pasid 0x0", "iotlb 2 did 7 drain 3"}},
	} {
		b := newBench(t)
		b.capability |= c.capability
		b.extra |= ecapScalable
		u := b.enabled(t, vtd.Options{Mode: vtd.Scalable})
		for i, step := range []struct {
			do   func() error
			want []string
		}{
			{func() error { return u.Attach(0x18, 7, first) }, c.attach},
			{func() error { return u.AttachPASID(0x18, 9, 8, first) }, c.second},
			{func() error { return u.DetachPASID(0x18, 9) }, c.detach},
			{func() error { return u.Detach(0x18) }, c.empty},
		} {
			b.log = nil
			if err := step.do(); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(step.want, b.log); diff != "" {
				t.Errorf("%s, step %d: %s", c.name, i, diff)
			}
		}
	}
}

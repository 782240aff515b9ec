package iommu_test

import (
	"context"
	"testing"
	"time"

	"gommu/iommu"
)

// A buffer that could not be mapped, and not be taken from the devices at once either, is so later.
func TestAllocUndoneLater(t *testing.T) {
	p := newPre(t, iommu.Options{MaxMappings: 1, Bounce: iommu.Bounce{Off: true}})
	mem := p.alloc(page)
	r := p.register(mem, both)
	var all []iommu.Mapping
	for {
		m, err := r.Map(0, page, both)
		if err != nil {
			want(t, err, iommu.ErrEmpty)
			break
		}
		all = append(all, m)
	}
	var buffers []*iommu.Buffer
	before, err := 0, error(nil)
	for err == nil { // other processors may have records left
		before = p.k.used()
		p.k.stick(true)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		var b *iommu.Buffer
		b, err = p.d.Alloc(ctx, page, both, iommu.Place{})
		cancel()
		if err == nil {
			buffers = append(buffers, b)
		}
	}
	left := p.k.used()
	p.k.stick(false)
	eventually(t, "the worker has undone it", func() bool { return p.k.used() == before })
	if left != before+1 {
		t.Errorf("%d mappings of the kernel, want %d: this test tests nothing", left, before+1)
	}
	ok(t, p.d.UnmapBatch(all))
	for _, b := range buffers {
		ok(t, p.d.Free(b))
	}
}

package measure

import (
	"context"

	"gommu/iommu"
)

// NewRing is the way through rings of a domain, one for each worker, which flush
// at the end of a burst.
func NewRing(d *iommu.Domain, mem []byte, burst int) Way { return ring{d, mem, burst} }

type ring struct {
	d     *iommu.Domain
	mem   []byte
	burst int
}

// Worker makes a ring with room for all slots twice, so that it is never full.
func (w ring) Worker(ctx context.Context, s Shape, number, slots int) (Worker, error) {
	l, err := newLists(s, w.mem, number, slots)
	if err != nil {
		return nil, err
	}
	size := uint64(4 << 20)
	for size < 2*uint64(max(slots, w.burst)*s.Bytes()) {
		size *= 2
	}
	r, err := w.d.NewRing(ctx, iommu.RingOptions{Size: size, Burst: 2 * w.burst})
	if s.Pieces > 1 {
		return &ringLists{r, l}, err
	}
	return &ringWorker{r, l}, err
}

// ringWorker maps single pieces.
type ringWorker struct {
	r *iommu.Ring
	lists
}

func (w *ringWorker) Map(slot int) (err error) {
	w.maps[slot], err = w.r.Map(w.mem[slot][0], iommu.Bidirectional)
	return err
}

func (w *ringWorker) Unmap(slot int) error { return w.r.Unmap(w.maps[slot]) }
func (w *ringWorker) Flush() error         { return w.r.Flush() }
func (w *ringWorker) Close() error         { return w.r.Close() }

func (w *ringWorker) Pairs(n int) (int, error) {
	for i := range n {
		m, err := w.r.Map(w.first[i%turns], iommu.Bidirectional)
		if err != nil {
			return i, err
		}
		if err := w.r.Unmap(m); err != nil {
			return i, err
		}
	}
	return n, nil
}

// ringLists maps lists.
type ringLists struct {
	r *iommu.Ring
	lists
}

func (w *ringLists) Map(slot int) (err error) {
	w.maps[slot], _, err = w.r.MapSG(w.mem[slot], iommu.Bidirectional, iommu.ListLimits{}, w.out)
	return err
}

func (w *ringLists) Unmap(slot int) error { return w.r.Unmap(w.maps[slot]) }
func (w *ringLists) Flush() error         { return w.r.Flush() }
func (w *ringLists) Close() error         { return w.r.Close() }

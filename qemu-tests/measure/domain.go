package measure

import (
	"context"

	"gommu/iommu"
)

// NewDomain is the way through a domain: Map and Unmap of slices of mem. What is not registered there
// goes through the domain's bounce buffers.
func NewDomain(d *iommu.Domain, mem []byte) Way { return domain{d, mem} }

type domain struct {
	d   *iommu.Domain
	mem []byte
}

func (w domain) Worker(_ context.Context, s Shape, number, slots int) (Worker, error) {
	l, err := newLists(s, w.mem, number, slots)
	if s.Pieces > 1 {
		return &domainLists{w.d, l}, err
	}
	return &domainWorker{w.d, l}, err
}

// domainWorker maps single pieces.
type domainWorker struct {
	d *iommu.Domain
	lists
}

func (w *domainWorker) Map(slot int) (err error) {
	w.maps[slot], err = w.d.Map(w.mem[slot][0], iommu.Bidirectional)
	return err
}

func (w *domainWorker) Unmap(slot int) error { return w.d.Unmap(w.maps[slot]) }
func (w *domainWorker) Flush() error         { return nil }
func (w *domainWorker) Close() error         { return nil }

func (w *domainWorker) Pairs(n int) (int, error) {
	for i := range n {
		m, err := w.d.Map(w.first[i%turns], iommu.Bidirectional)
		if err != nil {
			return i, err
		}
		if err := w.d.Unmap(m); err != nil {
			return i, err
		}
	}
	return n, nil
}

// domainLists maps lists.
type domainLists struct {
	d *iommu.Domain
	lists
}

func (w *domainLists) Map(slot int) (err error) {
	w.maps[slot], _, err = w.d.MapSG(w.mem[slot], iommu.Bidirectional, iommu.ListLimits{}, w.out)
	return err
}

func (w *domainLists) Unmap(slot int) error { return w.d.Unmap(w.maps[slot]) }
func (w *domainLists) Flush() error         { return nil }
func (w *domainLists) Close() error         { return nil }

// lists are what the slots of a worker are of.
type lists struct {
	mem   [][][]byte
	first [turns][]byte // of the first slots, again and again
	maps  []iommu.Mapping
	out   []iommu.Piece
}

const (
	// apart is how many mappings lie between the first of one worker and of the next.
	apart = 17
	// turns is after how many pairs Pairs maps the same memory again.
	turns = 16
)

func newLists(s Shape, mem []byte, number, slots int) (lists, error) {
	l := lists{maps: make([]iommu.Mapping, slots), out: make([]iommu.Piece, s.Pieces)}
	for i := range slots {
		list, err := s.Slice(mem, number*apart+i)
		if err != nil {
			return lists{}, err
		}
		l.mem = append(l.mem, list)
	}
	for i := range l.first {
		l.first[i] = l.mem[i%slots][0]
	}
	return l, nil
}

package measure

import (
	"context"
	"errors"

	"gommu/pagetable"
)

// NewTable is the table alone: each worker maps at IOVAs of its own, and no unit is told of anything.
// It is the part of the others that is work on entries.
func NewTable(c ListConfig) Way { return table{c} }

type table struct{ c ListConfig }

func (t table) Worker(_ context.Context, s Shape, number, slots int) (Worker, error) {
	x, err := newExtents(t.c, s, number, slots)
	if err != nil {
		return nil, err
	}
	size := uint64(s.Bytes())
	w := &tableWorker{t: t.c.Table, extents: x, base: base(size) + size<<22 + uint64(number)<<32, size: size, holds: holds{t: t.c.Table}}
	return w, w.holds.add(w.base, uint64(slots)*size, s)
}

type tableWorker struct {
	t *pagetable.Table
	extents
	batch      pagetable.Batch
	base, size uint64
	holds      holds
}

func (w *tableWorker) Map(slot int) error {
	return w.t.MapExtents(w.base+uint64(slot)*w.size, w.at[slot], pagetable.Read|pagetable.Write)
}

func (w *tableWorker) Unmap(slot int) error {
	_, err := w.t.Unmap(w.base+uint64(slot)*w.size, w.size, &w.batch)
	return err
}

func (w *tableWorker) Flush() error { return w.batch.Release() }
func (w *tableWorker) Close() error { return errors.Join(w.batch.Release(), w.holds.drop()) }

// holds are tables that are kept for the windows of a way: a table that came and went with each pair
// would be most of its time, and most drivers have other mappings near.
type holds struct {
	t    *pagetable.Table
	list []span
}

// A span is a range of IOVAs and the level of its held tables.
type span struct {
	iova, size uint64
	level      int
}

// add holds the tables that windows of a shape need.
func (h *holds) add(iova, size uint64, s Shape) error {
	level, each := 0, uint64(2<<20)
	if s.Size >= 2<<20 {
		level, each = 1, 1<<30
	}
	end := (iova + size + each - 1) &^ (each - 1)
	iova &^= each - 1
	if err := h.t.Hold(iova, end-iova, level); err != nil {
		return err
	}
	h.list = append(h.list, span{iova, end - iova, level})
	return nil
}

// drop lets go of them, which gives back their frames: nothing is mapped there and the unit is told
// by nobody, so the way's last flush comes before.
func (h *holds) drop() error {
	var batch pagetable.Batch
	var errs []error
	for _, s := range h.list {
		errs = append(errs, h.t.Unhold(s.iova, s.size, s.level, &batch))
	}
	h.list = nil
	return errors.Join(append(errs, batch.Release())...)
}

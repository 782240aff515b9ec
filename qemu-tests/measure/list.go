package measure

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"sync"

	"gommu/iommu/vtd"
	"gommu/pagetable"
)

// A ListConfig is what the plain way works on.
type ListConfig struct {
	Unit  *vtd.Unit
	Table *pagetable.Table
	// Domain is the id that invalidations name.
	Domain uint16
	Mem    []byte
	At     []pagetable.Extent // where Mem lies on the bus
	// Every is after how many unmaps the unit is told, and waited for; 1 is at once.
	Every int
}

// NewMutexList is what a driver writes that has only a table and a unit: IOVAs lie in a list under a mutex,
// and the same mutex is held for the table and while the unit forgets what was unmapped, of which it is told
// in batches. It allocates nothing and may sleep.
func NewMutexList(c ListConfig) Way { return &mutexList{c: c, holds: holds{t: c.Table}} }

// base is the first IOVA of windows of a size: 64 GiB for pages, and further up for
// larger ones, so that tables held for one size are in no other's way.
func base(size uint64) uint64 { return size << 24 }

type mutexList struct {
	c ListConfig

	mu      sync.Mutex
	free    []uint64 // IOVAs
	pending []uint64 // unmapped, and the unit may still know them
	batch   pagetable.Batch
	size    uint64 // of each window; 0 while there are no workers
	made    int    // IOVAs
	workers int
	holds   holds
}

func (w *mutexList) Worker(_ context.Context, s Shape, number, slots int) (Worker, error) {
	x, err := newExtents(w.c, s, number, slots)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.workers == 0 {
		w.size = uint64(s.Bytes())
	}
	more := slots + w.c.Every
	if err := w.holds.add(base(w.size)+uint64(w.made)*w.size, uint64(more)*w.size, s); err != nil {
		return nil, err
	}
	w.free, w.pending = slices.Grow(w.free, w.made+more), slices.Grow(w.pending, w.c.Every)
	for range more {
		w.free = append(w.free, base(w.size)+uint64(w.made)*w.size)
		w.made++
	}
	w.workers++
	return &listWorker{w: w, extents: x, iova: make([]uint64, slots)}, nil
}

type listWorker struct {
	w *mutexList
	extents
	iova []uint64
}

func (l *listWorker) Map(slot int) error {
	w := l.w
	w.mu.Lock()
	defer w.mu.Unlock()
	last := len(w.free) - 1
	iova := w.free[last]
	if err := w.c.Table.MapExtents(iova, l.at[slot], pagetable.Read|pagetable.Write); err != nil {
		return err
	}
	w.free, l.iova[slot] = w.free[:last], iova
	return nil
}

func (l *listWorker) Unmap(slot int) error {
	w := l.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, err := w.c.Table.Unmap(l.iova[slot], w.size, &w.batch); err != nil {
		return err
	}
	w.pending = append(w.pending, l.iova[slot])
	if len(w.pending) < w.c.Every {
		return nil
	}
	return w.flush()
}

// flush has the unit forget what is pending. The caller holds mu.
func (w *mutexList) flush() error {
	err := w.c.Unit.Flush(w.c.Domain, &w.batch)
	w.free = append(w.free, w.pending...)
	w.pending = w.pending[:0]
	return err
}

func (l *listWorker) Flush() error { return nil }

// Close flushes what is pending; the last worker leaves the list empty.
func (l *listWorker) Close() error {
	w := l.w
	w.mu.Lock()
	defer w.mu.Unlock()
	err := w.flush()
	if w.workers--; w.workers == 0 {
		w.free, w.made = w.free[:0], 0
		err = errors.Join(err, w.holds.drop())
	}
	return err
}

// extents are where the memory of a worker's slots lies on the bus.
type extents struct{ at [][]pagetable.Extent }

func newExtents(c ListConfig, s Shape, number, slots int) (extents, error) {
	l, err := newLists(s, c.Mem, number, slots)
	if err != nil {
		return extents{}, err
	}
	var x extents
	for _, list := range l.mem {
		var at []pagetable.Extent
		for _, mem := range list {
			at = append(at, part(c.At, offset(c.Mem, mem), uint64(len(mem)))...)
		}
		x.at = append(x.at, at)
	}
	return x, nil
}

// offset is where part begins in mem.
func offset(mem, part []byte) uint64 {
	return uint64(reflect.ValueOf(part).Pointer() - reflect.ValueOf(mem).Pointer())
}

// part is size bytes of extents from off on.
func part(whole []pagetable.Extent, off, size uint64) (all []pagetable.Extent) {
	for _, e := range whole {
		if off >= e.Size {
			off -= e.Size
			continue
		}
		n := min(size, e.Size-off)
		if n > 0 {
			all = append(all, pagetable.Extent{Bus: e.Bus + off, Size: n})
		}
		off, size = 0, size-n
	}
	return all
}

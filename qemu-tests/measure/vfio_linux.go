package measure

import (
	"context"
	"errors"

	"gommu/vfio"
)

// What NewVFIO uses of the IOVAs.
const (
	VFIOBase = 1 << 37
	VFIOSize = 1 << 37
	vfioLane = 1 << 31 // of each worker
)

// NewVFIO is the way through the ioctls of VFIO type 1: each piece of each mapping is mapped by
// one call, and the whole is unmapped by one. It uses the VFIOSize bytes of IOVAs from VFIOBase on.
func NewVFIO(c *vfio.Container, mem []byte) Way { return ioctls{c, mem} }

type ioctls struct {
	c   *vfio.Container
	mem []byte
}

func (w ioctls) Worker(_ context.Context, s Shape, number, slots int) (Worker, error) {
	l, err := newLists(s, w.mem, number, slots)
	return &ioctlWorker{c: w.c, lists: l, base: VFIOBase + uint64(number)*vfioLane, size: uint64(s.Bytes())}, err
}

type ioctlWorker struct {
	c *vfio.Container
	lists
	base, size uint64
}

func (w *ioctlWorker) Map(slot int) error {
	first := w.base + uint64(slot)*w.size
	iova := first
	for _, mem := range w.mem[slot] {
		if err := w.c.MapDMA(iova, mem, vfio.DMARead|vfio.DMAWrite); err != nil {
			if iova > first {
				err = errors.Join(err, w.c.UnmapDMA(first, iova-first))
			}
			return err
		}
		iova += uint64(len(mem))
	}
	return nil
}

func (w *ioctlWorker) Unmap(slot int) error {
	return w.c.UnmapDMA(w.base+uint64(slot)*w.size, w.size)
}

func (w *ioctlWorker) Flush() error { return nil }
func (w *ioctlWorker) Close() error { return nil }

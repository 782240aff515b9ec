package iommu

import (
	"context"
	"slices"
	"sync"

	"gommu/respool"
)

// Classes of bounce buffers. A buffer of one class is cut into 16 of the next smaller one, a slab into 2 of the largest.
const (
	bounceClasses = 3
	slabPages     = slabSize / pageSize
)

// bouncePages is the size of a buffer of each class: 4 KiB, 64 KiB, 1 MiB.
var bouncePages = [bounceClasses + 1]uint32{1, 16, 256, slabPages}

// A slot is a bounce buffer: the number of its slab times slabPages, and its first page there.
type slot uint32

// carver cuts slabs into slots, for the sources of the pools of slots. What is free again becomes the larger slot that it was cut from.
type carver struct {
	slabs *respool.Pool[uint32] // numbers of slabs

	mu   sync.Mutex
	free [bounceClasses][]slot
}

// take returns a slot of a class. It waits for a slab if none is left to cut.
func (c *carver) take(ctx context.Context, class int) (slot, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s, ok := c.pop(class); ok {
		return s, nil
	}
	c.mu.Unlock()
	n, err := c.slabs.GetWait(ctx)
	c.mu.Lock()
	if err != nil {
		return 0, err
	}
	if s, ok := c.pop(class); ok {
		// Somebody else has cut a slab or given a slot back meanwhile. Who cut this one too would leave the slots of
		// one of both without anybody whose give makes it whole again.
		_ = c.slabs.Put(n) // it was got there, and others wait for it
		return s, nil
	}
	c.cut(slot(n*slabPages), bounceClasses-1)
	s, _ := c.pop(class)
	return s, nil
}

// pop takes a free slot, cut from a larger one if there is no other.
func (c *carver) pop(class int) (slot, bool) {
	if class == bounceClasses {
		return 0, false
	}
	if len(c.free[class]) == 0 {
		large, ok := c.pop(class + 1)
		if !ok {
			return 0, false
		}
		c.cut(large, class)
	}
	// The lowest: the others become whole again sooner.
	i := 0
	for j, s := range c.free[class] {
		if s < c.free[class][i] {
			i = j
		}
	}
	s := c.free[class][i]
	c.free[class] = slices.Delete(c.free[class], i, i+1)
	return s, true
}

// cut makes the slot of the next larger class, or the slab, that starts at s slots of a class.
func (c *carver) cut(s slot, class int) {
	for n := range bouncePages[class+1] / bouncePages[class] {
		c.free[class] = append(c.free[class], s+slot(n*bouncePages[class]))
	}
}

// give takes a slot of a class back.
func (c *carver) give(s slot, class int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for ; class < bounceClasses; class++ {
		c.free[class] = append(c.free[class], s)
		s = s / slot(bouncePages[class+1]) * slot(bouncePages[class+1])
		inside := func(f slot) bool { return f-s < slot(bouncePages[class+1]) } // below s wraps
		n := uint32(0)
		for _, f := range c.free[class] {
			if inside(f) {
				n++
			}
		}
		if n < bouncePages[class+1]/bouncePages[class] {
			return nil
		}
		c.free[class] = slices.DeleteFunc(c.free[class], inside)
	}
	return c.slabs.Put(uint32(s / slabPages))
}

// Package ring is what both drivers use.
package ring

import (
	"errors"
	"sync"
	"sync/atomic"
)

// ErrFull is the answer of a full ring.
var ErrFull = errors.New("ring is full")

// A Doorbell tells a device that there is work.
type Doorbell interface {
	//gommu:nosleep
	Ring(tail uint32)
}

// A Ring is a queue of descriptors.
type Ring struct {
	slots [64]uint64
	tail  atomic.Uint32
	Bell  Doorbell

	mu   sync.Mutex
	kept []uint64
}

// Push puts a descriptor in.
//
//gommu:nosleep
func (r *Ring) Push(d uint64) error {
	t := r.tail.Load()
	if t >= uint32(len(r.slots)) {
		return ErrFull
	}
	r.slots[t] = d
	r.tail.Store(t + 1)
	r.Bell.Ring(t + 1)
	return nil
}

// Keep is for those who may sleep.
func (r *Ring) Keep(d uint64) { r.locked(d) }

func (r *Ring) locked(d uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kept = append(r.kept, d)
}

// A Register is a doorbell in memory.
type Register struct{ word atomic.Uint32 }

//gommu:nosleep
func (r *Register) Ring(tail uint32) { r.word.Store(tail) }

// Package good is a driver that never sleeps.
package good

import (
	"sync/atomic"

	"example.com/driver/ring"
)

type register struct{ word atomic.Uint32 }

//gommu:nosleep
func (r *register) Ring(tail uint32) { r.word.Store(tail) }

// Submit sends n descriptors.
//
//gommu:nosleep
func Submit(r *ring.Ring, n uint64) error {
	for i := range n {
		if err := r.Push(address(i)); err != nil {
			return err
		}
	}
	return nil
}

func address(i uint64) uint64 { return i << 12 }

// New makes a ring, which may sleep.
func New() *ring.Ring { return &ring.Ring{Bell: new(register)} }

// Package bad is a driver that sleeps.
package bad

import (
	"fmt"

	"example.com/driver/ring"
)

type socket struct{ c chan uint32 }

func (s socket) Ring(tail uint32) { s.c <- tail }

// Submit sends a descriptor.
//
//gommu:nosleep
func Submit(r *ring.Ring, names map[uint64]string, d uint64) error {
	if err := r.Push(d); err != nil {
		return fmt.Errorf("descriptor %d: %w", d, err)
	}
	note(names, d)
	r.Keep(d)
	return nil
}

func note(names map[uint64]string, d uint64) { names[d] = "submitted" }

// Quiet takes it on trust.
//
//gommu:nosleep
func Quiet(r *ring.Ring, d uint64) {
	r.Keep(d) //gommu:trust nobody else has this ring yet
}

// New makes a ring, which may sleep.
func New() *ring.Ring { return &ring.Ring{Bell: socket{}} }

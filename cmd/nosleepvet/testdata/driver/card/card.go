// Package card has a register of package ring.
package card

import "example.com/driver/ring"

// A Bell is a doorbell.
type Bell interface {
	//gommu:nosleep
	Ring(tail uint32)
}

// A Card is a device whose method Ring is that of its field.
type Card struct{ *ring.Register }

// New makes a card.
func New() *Card { return &Card{new(ring.Register)} }

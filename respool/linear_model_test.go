package respool_test

import (
	"errors"
	"fmt"
	"math/bits"

	"github.com/anishathalye/porcupine"
	"gommu/respool"
)

// The model of the histories in linear_test.go is a bag of up to bagMax distinct elements, of which
// each is free, with a caller, or in one of some reservations.
//
// It is as strict as doc.go: every call takes effect at one moment between its beginning and its
// end. "An answer of ErrEmpty has a moment during the call at which no element was ready, or
// fewer than the batch asked for. An element that a Get or a Put has in its hands at that
// moment is not ready." A Get has an element in its hands after it left ready, which is where
// the model lets the Get happen; a Put before it gets there, which is where the Put happens. So
// what is in somebody's hands needs no exception: ErrEmpty is right if, and only if, at that moment fewer
// are free than the call asks for and its class has to leave. An element put by a call that is over, and not taken since, has
// to be found; one that a call under way takes or puts may be found or not.
//
// Which elements Reserve takes is not said until they are drawn. So a state of the model is
// a set of possible bags, all those that fit what was seen.
const bagMax = 8

// A holder says who has an element: 4 bits for each in a bag.
type holder uint8

const (
	free   holder = iota
	caller        // any; each puts only what it got
	reservation0
)

// A bag is the holders of all elements, element 1 in the lowest bits.
type bag uint32

func (b bag) of(e int) holder { return holder(b>>(4*(e-1))) & 15 }

func (b bag) with(e int, h holder) bag {
	return b&^(15<<(4*(e-1))) | bag(h)<<(4*(e-1))
}

// have is the set of elements that h has, element 1 in bit 1. nobody is the holder of
// the places above size.
func (b bag) have(h holder) (set uint) {
	for e := 1; e <= bagMax; e++ {
		if b.of(e) == h {
			set |= 1 << e
		}
	}
	return set
}

const nobody holder = 15

func fullBag(size int) (b bag) {
	for e := size + 1; e <= bagMax; e++ {
		b = b.with(e, nobody)
	}
	return b
}

// A call moves elements from one holder to another.
type call struct {
	name     string
	from, to holder
	es       []int // which ones, of a Put
	n        int   // how many
	leave    int   // how many it has to leave free, by its class
	unseen   bool  // the answer does not say which
}

// A reply is a call's answer.
type reply struct {
	es  []int // which were moved, unless unseen
	err error
}

// next is all bags that b may be after the call, none if b does not fit the reply.
func next(b bag, c call, r reply) []bag {
	have := b.have(c.from)
	enough := bits.OnesCount(have) >= c.n+c.leave
	switch {
	case r.err != nil && enough:
		return nil // refused what was there
	case errors.Is(r.err, respool.ErrEmpty) && c.from == free:
		return []bag{b}
	case errors.Is(r.err, respool.ErrSpent) && c.from >= reservation0:
		return []bag{b}
	case r.err != nil || !enough:
		return nil
	case c.unseen:
		return choose(b, have, c.n, c.to, nil)
	}
	for _, e := range r.es {
		if e < 1 || e > bagMax || b.of(e) != c.from {
			return nil // doubled, lost, or never there
		}
		b = b.with(e, c.to)
	}
	return []bag{b}
}

// choose is b with every choice of n elements of the set have moved to h.
func choose(b bag, have uint, n int, h holder, into []bag) []bag {
	if n == 0 {
		return append(into, b)
	}
	for set := have; bits.OnesCount(set) >= n; {
		e := bits.TrailingZeros(set)
		set &^= 1 << e
		into = choose(b.with(e, h), set, n-1, h, into)
	}
	return into
}

func bagModel(size int) porcupine.Model {
	return (&porcupine.NondeterministicModel{
		Init: func() []any { return []any{fullBag(size)} },
		Step: func(state, input, output any) (states []any) {
			for _, b := range next(state.(bag), input.(call), output.(reply)) {
				states = append(states, b)
			}
			return states
		},
		Hash: func(state any) uint64 { return uint64(state.(bag)) * 0x9e3779b97f4a7c15 },
		DescribeOperation: func(input, output any) string {
			c, r := input.(call), output.(reply)
			return fmt.Sprintf("%s %d %v, %d to %d, leaving %d: %v %v", c.name, c.n, c.es, c.from, c.to, c.leave, r.es, r.err)
		},
	}).ToModel()
}

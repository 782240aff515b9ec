package respool

import "sync/atomic"

// A stack's head is one word: the number of the top slot (0 if there is none), two
// flags, and a tag that counts pops. A link is the number of the slot below, and
// above that the depth, which is how many slots there are from here down.
const (
	indexBits = 24
	indexMask = 1<<indexBits - 1

	closing = 1 << indexBits       // Close was called: no more pops by Get
	sealed  = 1 << (indexBits + 1) // Close is over: no more pushes

	tagShift = indexBits + 2
	tagOne   = 1 << tagShift
	tagMask  = 1<<(64-tagShift) - 1
)

// cacheLine is two lines of 64 bytes: processors prefetch them in pairs.
const cacheLine = 128

// A stack is a lock-free stack (R. K. Treiber, "Systems programming: coping with
// parallelism", IBM RJ 5118, 1986) of slot numbers from 1 to a fixed maximum. A
// slot's link is written only by who popped the slot, or made it, and not yet
// pushed it.
//
// ABA: between the load of the head and a successful swap nobody popped, because
// every pop changes the tag. Without a pop the slot that was on top cannot have
// left the stack, so its link, and with it the depth, is the one that was read. The
// tag has 38 bits: to be fooled, a goroutine has to sleep inside pop or push while
// others pop an exact multiple of 2.7e11 times, which takes more than an hour.
type stack struct {
	head  atomic.Uint64
	_     [cacheLine - 8]byte
	links []atomic.Uint64
	seen  atomic.Uint64 // pops at the last level, with the bits that the tag lacks: less than a round of the tag ago
	_     [cacheLine - 32]byte
}

func (s *stack) init(slots int) { s.links = make([]atomic.Uint64, slots+1) }

// push puts slot i on top, unless the head carries one of the flags in refuse.
//
//gommu:nosleep
func (s *stack) push(i uint32, refuse uint64) bool {
	links := s.links
	link := &links[i]
	for {
		h := s.head.Load()
		if h&refuse != 0 {
			return false
		}
		top := h & indexMask
		below := links[top].Load() // that of slot 0 stays 0: depth 0
		l := top | (below>>indexBits+1)<<indexBits
		if link.Load() != l { // a store is a locked instruction, and often needless
			link.Store(l)
		}
		if s.head.CompareAndSwap(h, h&^indexMask|uint64(i)) {
			return true
		}
	}
}

// pop takes the top slot off and says how many are left, unless there is none or
// the head carries one of the flags in refuse: then i is 0. The head as it was
// tells which.
//
//gommu:nosleep
func (s *stack) pop(refuse uint64) (i uint32, left int, head uint64) {
	links := s.links
	for {
		h := s.head.Load()
		top := h & indexMask
		if top == 0 || h&refuse != 0 {
			return 0, 0, h
		}
		l := links[top].Load()
		if s.head.CompareAndSwap(h, (h&^indexMask+tagOne)|l&indexMask) {
			return uint32(top), int(l>>indexBits) - 1, h
		}
	}
}

// level returns, for one and the same moment, how often pop succeeded since the
// beginning and how many slots are on the stack.
//
//gommu:nosleep
func (s *stack) level() (pops uint64, depth int) {
	for {
		seen := s.seen.Load() // before the head, so that it is not the newer one
		h := s.head.Load()
		l := s.links[h&indexMask].Load()
		if s.head.Load() != h {
			continue
		}
		pops = seen + (h>>tagShift-seen)&tagMask
		s.seen.CompareAndSwap(seen, pops)
		return pops, int(l >> indexBits)
	}
}

// depth is how many slots are on the stack.
//
//gommu:nosleep
func (s *stack) depth() int {
	_, n := s.level()
	return n
}

// seal forbids pushes if the stack is empty.
func (s *stack) seal() bool {
	h := s.head.Load()
	return h&indexMask == 0 && s.head.CompareAndSwap(h, h|sealed)
}

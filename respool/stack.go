package respool

import "sync/atomic"

// A stack's head is one word: the number of the top slot (0 if there is none), three
// flags, and a tag that counts pops. A link is the number of the slot below, and
// above that the depth, which is how many slots there are from here down.
const (
	indexBits = 24
	indexMask = 1<<indexBits - 1

	closing = 1 << indexBits       // Close was called: no more pops by Get
	sealed  = 1 << (indexBits + 1) // Close is over: no more pushes
	held    = 1 << (indexBits + 2) // kept for who waits: no more pops by others
	barred  = closing | held

	tagShift = indexBits + 3
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
// same goes for the links further down, which popChain follows: what lies below a slot
// leaves the stack after it. If the swap fails, a walk may have read links of
// different times. That does no harm: a link holds a slot number at all times, and the
// walk ends after as many steps as there are slots to pop.
//
// The tag has 37 bits: to be fooled, a goroutine has to sleep inside a pop or a push
// while others pop an exact multiple of 1.4e11 slots, which takes more than five minutes.
type stack struct {
	head  atomic.Uint64
	_     [cacheLine - 8]byte
	links []atomic.Uint64
	seen  atomic.Uint64 // pops at the last level, with the bits that the tag lacks: less than a round of the tag ago
	way   atomic.Int64  // how many calls are still to let a chain go ahead that lost its swap
	_     [cacheLine - 40]byte
}

func (s *stack) init(slots int) { s.links = make([]atomic.Uint64, slots+1) }

// push puts slot i on top, unless the head carries one of the flags in refuse.
//
//gommu:nosleep
func (s *stack) push(i uint32, refuse uint64) bool {
	links := s.links
	link := &links[i]
	s.giveWay()
	for tries := 0; ; tries++ {
		backOff(tries)
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
	s.giveWay()
	for tries := 0; ; tries++ {
		backOff(tries)
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

// notes are the first slots of a chain. To go by them is faster than to follow the
// links, where each load has to wait for the one before.
type notes [32]uint32

// after is the slot below the kth of a chain, which is i.
//
//gommu:nosleep
func (s *stack) after(i uint64, k int, notes *notes) uint64 {
	if k+1 < len(notes) {
		return uint64(notes[k+1])
	}
	return s.links[i].Load() & indexMask
}

// popChain takes up to most slots off the top, still linked, in one step. The first is
// the old top. It says how many it took and how many are left; it takes none if there
// are fewer than least or the head carries one of the flags in refuse. The head as it
// was tells which. It notes the first slots of the chain in notes.
//
//gommu:nosleep
func (s *stack) popChain(least, most int, refuse uint64, notes *notes) (first uint32, n, left int, head uint64) {
	links := s.links
	for tries := 0; ; tries++ {
		s.askWay(tries)
		h := s.head.Load()
		top := h & indexMask
		if h&refuse != 0 {
			return 0, 0, 0, h
		}
		depth := int(links[top].Load() >> indexBits)
		n := min(most, depth)
		if n < max(least, 1) {
			if s.head.Load() == h {
				return 0, 0, 0, h
			}
			continue // or the depth may be of another time
		}
		below := top
		for k := range n {
			if k < len(notes) {
				notes[k] = uint32(below)
			}
			below = links[below].Load() & indexMask
		}
		if s.head.CompareAndSwap(h, (h&^indexMask+uint64(n)<<tagShift)|below) {
			return uint32(top), n, depth - n, h
		}
	}
}

// pushChain puts the n slots that popChain took off from on top in one step, in the
// order they had there, unless the head carries one of the flags in refuse.
//
//gommu:nosleep
func (s *stack) pushChain(from *stack, first uint32, n int, refuse uint64, notes *notes) bool {
	links := s.links
	for tries := 0; ; tries++ {
		s.askWay(tries)
		h := s.head.Load()
		if h&refuse != 0 {
			return false
		}
		top := h & indexMask
		depth := links[top].Load()>>indexBits + uint64(n)
		at := uint64(first)
		for k := range n {
			next := top
			if k < n-1 {
				next = from.after(at, k, notes)
			}
			if l := next | depth<<indexBits; links[at].Load() != l {
				links[at].Store(l)
			}
			depth--
			at = next
		}
		if s.head.CompareAndSwap(h, h&^indexMask|uint64(first)) {
			return true
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

// backOff lets others go ahead after a swap failed for the nth time: it counts, for
// 0.3 µs at first and up to 2.5 µs, and waits for nothing. Without it two processors
// pass the head's cache line to and fro at each try, which costs five times as much as
// what they want to do.
//
//gommu:nosleep
func backOff(n int) {
	if n == 0 {
		return
	}
	for range backOffSteps << min(n-1, maxBackOffShift) {
	}
}

// Steps of about 0.3 ns.
const (
	backOffSteps    = 1024
	maxBackOffShift = 3
)

// askWay asks the next single pushes and pops to let a chain go ahead whose swap failed: its swap
// comes so late after its load that they would overtake it without end. Each pauses once and
// waits for nobody, so a goroutine preempted here costs the others ways pauses and no more.
//
//gommu:nosleep
func (s *stack) askWay(tries int) {
	backOff(tries)
	if tries > 1 {
		s.way.Store(ways)
	}
}

// giveWay pauses where a chain asked for it.
//
//gommu:nosleep
func (s *stack) giveWay() {
	if s.way.Load() > 0 {
		s.way.Add(-1)
		backOff(maxBackOffShift + 1)
	}
}

const ways = 4

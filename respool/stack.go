package respool

import "sync/atomic"

// A stack's head is one word: the number of the top slot (0 if there is none), five
// flags, and a tag that counts pops. A link is the number of the slot below, and
// above that the depth, which is how many slots there are from here down.
const (
	indexBits = 24
	indexMask = 1<<indexBits - 1

	closing = 1 << indexBits              // Close was called: no more pops by Get
	sealed  = 1 << (indexBits + 1)        // Close is over: no more pushes
	held    = (1<<classes - 1) << heldBit // by class, kept for who waits: no more pops by others
	heldBit = indexBits + 2

	tagShift = heldBit + classes
	tagOne   = 1 << tagShift
	tagMask  = 1<<(64-tagShift) - 1
)

// heldBy is the flag that the first of class c in the line sets.
//
//gommu:nosleep
func heldBy(c Class) uint64 { return 1 << heldBit << c }

// barred are the flags that a request of class c regards: Close, and that somebody of its class or
// above waits.
//
//gommu:nosleep
func barred(c Class) uint64 { return closing | held<<c&held }

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
// The tag has 35 bits: to be fooled, a goroutine has to sleep inside a pop or a push
// while others pop an exact multiple of 3.4e10 slots, which takes more than a minute.
type stack struct {
	head  atomic.Uint64
	_     [cacheLine - 8]byte
	links []atomic.Uint64
	seen  atomic.Uint64 // pops at the last level, with the bits that the tag lacks: less than a round of the tag ago
	way   atomic.Int64  // how many calls are still to let a chain go ahead that lost its swap
	_     [cacheLine - 40]byte
}

// init makes s an empty stack over links, which several stacks may share, for a slot is on
// one of them at most. That of slot 0 stays 0.
func (s *stack) init(links []atomic.Uint64) { s.links = links }

// A bound says how many slots may be on ready. An element that is on its way counts as one that is out:
// a foreign Put that comes while another call, or the worker, has one in its hands is accepted. A Put
// of an element that is out is never refused, but while a foreign one is on trial.
type bound struct {
	total    atomic.Int64 // elements that exist: in ready, in use, or on their way
	reserved atomic.Int64 // elements in reservations
}

// passed says that n more on a stack of so many slots are more than there can be. What it
// reads may be of other moments than depth: the answer is good if the stack's head is still
// the same afterwards, for whoever takes from total or adds to reserved has popped before, and
// whoever adds to total or takes from reserved will push.
//
//gommu:nosleep
func (b *bound) passed(depth uint64, n int) bool {
	return int64(depth)+b.reserved.Load()+int64(n) > b.total.Load()
}

// overloaded says that what is on the stack passes the bound b.
//
//gommu:nosleep
func (s *stack) overloaded(b *bound) bool {
	for {
		h := s.head.Load()
		if !b.passed(s.links[h&indexMask].Load()>>indexBits, 0) {
			return false
		}
		if s.head.Load() == h {
			return true
		}
	}
}

// tryPush is the first try of push. It leaves what it cannot do to push.
//
//gommu:nosleep
func (s *stack) tryPush(i uint32, refuse uint64, b *bound) bool {
	h := s.head.Load()
	below := s.links[h&indexMask].Load() >> indexBits
	if h&refuse != 0 || b.passed(below, 1) || s.way.Load() > 0 {
		return false
	}
	if link, l := &s.links[i], h&indexMask|(below+1)<<indexBits; link.Load() != l {
		link.Store(l)
	}
	if debugging {
		pauseIf(refuse, "push: before the swap")
	}
	return s.head.CompareAndSwap(h, h&^indexMask|uint64(i))
}

// A pushed is how a push ended.
type pushed uint8

const (
	done    pushed = iota
	flagged        // the head carries one of the flags
	over           // the bound
)

// push puts slot i on top, unless the head carries one of the flags in refuse or that is over
// the bound b, if there is one.
//
//gommu:nosleep
func (s *stack) push(i uint32, refuse uint64, b *bound) pushed {
	links := s.links
	link := &links[i]
	s.giveWay()
	for tries := 0; ; tries++ {
		backOff(tries)
		h := s.head.Load()
		if h&refuse != 0 {
			return flagged
		}
		top := h & indexMask
		below := links[top].Load() // that of slot 0 stays 0: depth 0
		if b != nil && b.passed(below>>indexBits, 1) {
			if s.head.Load() == h {
				return over
			}
			continue
		}
		l := top | (below>>indexBits+1)<<indexBits
		if link.Load() != l { // a store is a locked instruction, and often needless
			link.Store(l)
		}
		pauseIf(refuse, "push: before the swap")
		if s.head.CompareAndSwap(h, h&^indexMask|uint64(i)) {
			return done
		}
	}
}

// pop takes the top slot off and says how many are left, unless there are no more than
// keep or the head carries one of the flags in refuse: then i is 0. The head as it was
// tells which.
//
//gommu:nosleep
func (s *stack) pop(keep int, refuse uint64) (i uint32, left int, head uint64) {
	links := s.links
	for tries := 0; ; tries++ {
		backOff(tries)
		h := s.head.Load()
		top := h & indexMask
		if h&refuse != 0 {
			return 0, 0, h
		}
		l := links[top].Load()
		if int(l>>indexBits) <= keep {
			if top == 0 || s.head.Load() == h {
				return 0, 0, h
			}
			continue // or the depth may be of another time
		}
		pauseIf(refuse, "pop: before the swap")
		if s.head.CompareAndSwap(h, (h&^indexMask+tagOne)|l&indexMask) {
			return uint32(top), int(l>>indexBits) - 1, h
		}
	}
}

// tryPop is the first try of pop, short enough to be inlined. What it cannot do, top being 0,
// pop can.
//
//gommu:nosleep
func (s *stack) tryPop(keep int, refuse uint64) (top uint64, left int) {
	h := s.head.Load()
	top = h & indexMask
	l := s.links[top].Load()
	left = int(l>>indexBits) - 1
	if debugging {
		pauseIf(refuse, "pop: before the swap")
	}
	if h&refuse != 0 || left < keep || !s.head.CompareAndSwap(h, h&^indexMask+tagOne|l&indexMask) {
		top = 0
	}
	return top, left
}

// popSlots is pop for as many slots as dst has room for, but at least least, or none. It
// fills dst from its start, the old top first, and says how many it took.
//
//gommu:nosleep
func (s *stack) popSlots(dst []uint32, least, keep int, refuse uint64) (n, left int, head uint64) {
	links := s.links
	for tries := 0; ; tries++ {
		s.askWay(tries)
		h := s.head.Load()
		if h&refuse != 0 {
			return 0, 0, h
		}
		depth := int(links[h&indexMask].Load() >> indexBits)
		n := min(len(dst), depth-keep)
		if n < max(least, 1) {
			if s.head.Load() == h {
				return 0, 0, h
			}
			continue // or the depth may be of another time
		}
		at := h & indexMask
		for k := range dst[:n] {
			dst[k] = uint32(at)
			below := links[at].Load() & indexMask
			if below == at-1 { // slots that went together lie together: do not wait for the load
				at--
				continue
			}
			at = below
		}
		pauseIf(refuse, "pop: before the swap")
		if s.head.CompareAndSwap(h, (h&^indexMask+uint64(n)<<tagShift)|at) {
			return n, depth - n, h
		}
	}
}

// pushSlots is push for several slots in one step, the first one uppermost.
//
//gommu:nosleep
func (s *stack) pushSlots(slots []uint32, refuse uint64, b *bound) pushed {
	for tries := 0; ; tries++ {
		s.askWay(tries)
		h := s.head.Load()
		if h&refuse != 0 {
			return flagged
		}
		top := h & indexMask
		depth := s.links[top].Load() >> indexBits
		if b != nil && b.passed(depth, len(slots)) {
			if s.head.Load() == h {
				return over
			}
			continue
		}
		linkSlots(s.links, slots, top, depth)
		pauseIf(refuse, "push: before the swap")
		if s.head.CompareAndSwap(h, h&^indexMask|uint64(slots[0])) {
			return done
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

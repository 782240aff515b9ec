package respool

// notes are the first slots of a chain. To go by them is faster than to follow the
// links, where each load has to wait for the one before.
type notes [32]uint32

// note notes the first slots of a chain that begins with slot at.
//
//gommu:nosleep
func (s *stack) note(at uint64, notes *notes) {
	for k := range notes {
		notes[k] = uint32(at)
		at = s.links[at].Load() & indexMask
	}
}

// after is the slot below the kth of a chain, which is i.
//
//gommu:nosleep
func (s *stack) after(i uint64, k int, notes *notes) uint64 {
	if k+1 < len(notes) {
		return uint64(notes[k+1])
	}
	return s.links[i].Load() & indexMask
}

// popChain takes n slots off the top, still linked, in one step, and says how many are left.
// The first is the old top. It takes none, and first is 0, if fewer than keep would be left or the
// head carries one of the flags in refuse. The head as it was tells which.
//
//gommu:nosleep
func (s *stack) popChain(n, keep int, refuse uint64) (first uint32, left int, head uint64) {
	links := s.links
	for tries := 0; ; tries++ {
		s.askWay(tries)
		h := s.head.Load()
		top := h & indexMask
		if h&refuse != 0 {
			return 0, 0, h
		}
		depth := int(links[top].Load() >> indexBits)
		if depth-keep < n {
			if s.head.Load() == h {
				return 0, 0, h
			}
			continue // or the depth may be of another time
		}
		below := top
		for range n {
			below = links[below].Load() & indexMask
		}
		pauseIf(refuse, "pop: before the swap")
		if s.head.CompareAndSwap(h, (h&^indexMask+uint64(n)<<tagShift)|below) {
			return uint32(top), depth - n, h
		}
	}
}

// pushChain is push for n slots that are linked to each other, in this order, in one step. The
// first of them are in notes.
//
//gommu:nosleep
func (s *stack) pushChain(first uint32, n int, refuse uint64, b *bound, notes *notes) pushed {
	links := s.links
	for tries := 0; ; tries++ {
		s.askWay(tries)
		h := s.head.Load()
		if h&refuse != 0 {
			return flagged
		}
		top := h & indexMask
		depth := links[top].Load() >> indexBits
		if b != nil && b.passed(depth, n) {
			if s.head.Load() == h {
				return over
			}
			continue
		}
		depth += uint64(n)
		at := uint64(first)
		for k := range n {
			next := top
			if k < n-1 {
				next = s.after(at, k, notes)
			}
			if l := next | depth<<indexBits; links[at].Load() != l {
				links[at].Store(l)
			}
			depth--
			at = next
		}
		pauseIf(refuse, "push: before the swap")
		if s.head.CompareAndSwap(h, h&^indexMask|uint64(first)) {
			return done
		}
	}
}

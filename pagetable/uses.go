package pagetable

import "sync/atomic"

// useCount is what this process knows of a frame that is a table; no unit sees
// it. There is one for each frame of a Memory.
//
//	bits 19:0   uses: one for each entry in use, for each that a call is about to
//	            add, for each call that needs the table to stay, and for each hold
//	bit  20     the link to the table has been flushed
//	bit  21     the table is dead
//	bits 31:22  holds (Table.Hold)
//	bits 63:32  lives: how often the frame went out of use as a table
//
// A held table of pages stays whatever is in it. So its entries are not counted
// while it is held, which spares maps and unmaps of pages the locked
// instruction; the last Unhold counts them.
//
// Who takes a table's last use makes it dead, and unlinks it: nobody adds to it
// any more. A compare-and-swap that adds uses to the word read while the
// table was known to be in the tree succeeds only in that life of the frame.
// So nobody needs to hold the tables on the way down: a stale way is noticed.
// The root has a use of its own.
//
// The uses of a dead table are who unlinks it and those who put a table of
// their own in its place. The last of them ends its life: before that the frame is
// not used again, so a link to it that is found in the tree is still to the dead table.
type useCount struct{ word atomic.Uint64 }

const (
	usesMask = 1<<20 - 1
	linkSeen = 1 << 20
	isDead   = 1 << 21
	oneHold  = 1 << 22
	oneLife  = 1 << 32

	holdsMask = oneLife - oneHold
	heldOnce  = oneHold | 1 // a hold and its use
	maxHolds  = holdsMask / oneHold
)

// start begins a life with n uses, of which some may be holds.
func (u *useCount) start(n int, seen bool) {
	w := u.word.Load()&^(oneLife-1) | uint64(n)
	if seen {
		w |= linkSeen
	}
	u.word.Store(w)
}

// add adds n uses if the word is still w.
func (u *useCount) add(w uint64, n int) bool {
	pause()
	return u.word.CompareAndSwap(w, w+uint64(n))
}

// drop gives n uses up, and says whether they were the last: the table is dead
// then, and the caller unlinks it and retires it.
func (u *useCount) drop(n int) (last bool) {
	for {
		w := u.word.Load()
		next := w - uint64(n)
		if last = next&usesMask == 0; last {
			next |= isDead | 1
		}
		if u.word.CompareAndSwap(w, next) {
			pause()
			return last
		}
	}
}

// claim keeps a dead table from being used again until letGo. It says whether
// the table is dead.
func (u *useCount) claim() bool {
	for {
		w := u.word.Load()
		if w&isDead == 0 {
			return false
		}
		if u.word.CompareAndSwap(w, w+1) {
			return true
		}
	}
}

// letGo ends one's part in a dead table, and says whether it was the last:
// the table's life is over then, and the frame the caller's.
func (u *useCount) letGo() (last bool) {
	for {
		w := u.word.Load()
		next := w - 1
		if last = next&usesMask == 0; last {
			next = w&^(oneLife-1) + oneLife
		}
		if u.word.CompareAndSwap(w, next) {
			return last
		}
	}
}

// end ends the life of a table that nobody else can have uses of.
func (u *useCount) end() { u.word.Store(u.word.Load()&^(oneLife-1) + oneLife) }

// hold adds a hold to a table that stays. The first one of a table of pages
// replaces the uses that its entries had.
func (u *useCount) hold(pages bool) {
	for {
		w := u.word.Load()
		next := w + heldOnce
		if pages && !isHeld(w) {
			next = w&^usesMask + heldOnce
		}
		if u.word.CompareAndSwap(w, next) {
			return
		}
	}
}

// unhold takes a hold away, and says whether that was the table's last use:
// then it is dead, and the caller unlinks it. inUse is the number of uses that the
// entries of a table of pages get with its last hold, 0 for other tables.
func (u *useCount) unhold(inUse int) (last bool) {
	for {
		w := u.word.Load()
		if !isHeld(w) {
			return false // another Unhold of the same range, which nobody may call
		}
		next := w - heldOnce
		if !isHeld(next) {
			next += uint64(inUse)
		}
		if last = next&usesMask == 0; last {
			next |= isDead | 1
		}
		if u.word.CompareAndSwap(w, next) {
			pause()
			return last
		}
	}
}

// uses is the number of uses of a table that is not dead, but for holds.
func (u *useCount) uses() int {
	w := u.word.Load()
	if !alive(w) {
		return 0
	}
	return int(w&usesMask) - holds(w)
}

func alive(w uint64) bool { return w&isDead == 0 && w&usesMask != 0 }

// holds is how often the table is held.
func holds(w uint64) int { return int(w & holdsMask / oneHold) }

func isHeld(w uint64) bool { return w&holdsMask != 0 }

package pagetable

import "sync/atomic"

// useCount is what this process knows of a frame that is a table; no unit sees
// it. There is one for each frame of a Memory.
//
//	bits 23:0   uses: one for each entry in use, for each that a call is about to
//	            add, and for each call that needs the table to stay
//	bit  24     the link to the table has been flushed
//	bit  25     the table is dead
//	bits 63:26  lives: how often the frame went out of use as a table
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
	usesMask = 1<<24 - 1
	linkSeen = 1 << 24
	isDead   = 1 << 25
	oneLife  = 1 << 26
)

// start begins a life with n uses.
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

// uses is the number of uses of a table that is not dead.
func (u *useCount) uses() int {
	w := u.word.Load()
	if !alive(w) {
		return 0
	}
	return int(w & usesMask)
}

func alive(w uint64) bool { return w&isDead == 0 && w&usesMask != 0 }

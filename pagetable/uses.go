package pagetable

import "sync/atomic"

// useCount is what this process knows of a frame that is a table; no unit sees
// it. There is one for each frame of a Memory.
//
//	bits 23:0   uses: one for each entry in use, for each that a call is about to
//	            add, and for each call that needs the table to stay
//	bit  24     the link to the table has been flushed
//	bits 63:25  lives: how often the frame went out of use as a table
//
// A table without uses is dead: nobody adds to it any more. Who took its last
// use unlinks it. A compare-and-swap that adds uses to the word read while the
// table was known to be in the tree succeeds only in that life of the frame.
// So nobody needs to hold the tables on the way down: a stale way is noticed.
// The root has a use of its own.
type useCount struct{ word atomic.Uint64 }

const (
	usesMask = 1<<24 - 1
	linkSeen = 1 << 24
	oneLife  = 1 << 25
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

// drop gives n uses up, and says whether they were the last: the caller has
// ended the table's life and unlinks it.
func (u *useCount) drop(n int) (last bool) {
	if u.word.Add(-uint64(n))&usesMask != 0 {
		return false
	}
	pause()
	u.end()
	return true
}

// end ends the life of a table that nobody else can have uses of.
func (u *useCount) end() { u.word.Store(u.word.Load()&^(oneLife-1) + oneLife) }

func (u *useCount) uses() int { return int(u.word.Load() & usesMask) }

func alive(w uint64) bool { return w&usesMask != 0 }

package vtd

import (
	"runtime"
	"sync/atomic"
	"time"
)

// A turn is the right to tell the unit something: to write to its queue, its
// command registers, and what this process notes about them. Those that must not
// sleep try to get it once and go away; those that may sleep hold Unit.mu, wait
// for it, and leave it while they wait for the unit.
type turn struct {
	taken atomic.Bool
	depth int // how often who holds Unit.mu has taken it
}

// try takes the turn if nobody has it.
//
//gommu:nosleep
func (t *turn) try() bool { return !t.taken.Load() && t.taken.CompareAndSwap(false, true) }

// give ends what try began.
//
//gommu:nosleep
func (t *turn) give() { t.taken.Store(false) }

// take waits for the turn. Only who holds Unit.mu calls it, and may do so again
// before it leaves. Others have the turn for a few instructions only.
func (t *turn) take() {
	if t.depth++; t.depth > 1 {
		return
	}
	for n := 0; !t.try(); n++ {
		if n < yieldRounds {
			runtime.Gosched()
		} else {
			time.Sleep(pollSleep)
		}
	}
}

// leave ends what take began.
func (t *turn) leave() {
	if t.depth--; t.depth == 0 {
		t.give()
	}
}

package respool

import (
	"time"

	"gommu/internal/probe"
)

// What tracers can see of a pool, which they know by its number. Only where a pool had nothing is on the way of Get.

// showEmpty is where pool number id had too little for a request of n elements for class c.
//
//gommu:nosleep
func showEmpty(id uint64, n int, c Class) {
	if probe.On(probe.PoolEmpty) && probe.Sampled() {
		probe.CallPoolEmpty(id, uint64(n), uint64(c))
	}
}

// showGrown is where the pool has got n elements since begin.
func (p *Pool[T]) showGrown(n int, begin time.Time) {
	if n > 0 && probe.On(probe.PoolGrow) {
		probe.CallPoolGrow(p.line.id, uint64(n), uint64(p.total.Load()), uint64(time.Since(begin)))
	}
}

// showShrunk is where the pool has given n elements back since begin.
func (p *Pool[T]) showShrunk(n int, begin time.Time) {
	if n > 0 && probe.On(probe.PoolShrink) {
		probe.CallPoolShrink(p.line.id, uint64(n), uint64(p.total.Load()), uint64(time.Since(begin)))
	}
}

// classOf is the class of a request that lets go first those whose bits are in refuse, see barred.
//
//gommu:nosleep
func classOf(refuse uint64) Class {
	for c := Ordinary; c < classes-1; c++ {
		if refuse == barred(c) {
			return c
		}
	}
	return classes - 1
}

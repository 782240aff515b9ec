package respool

import "sync/atomic"

// linkSlotsGo is linkSlots with atomic stores, for all processors and for the race detector.
//
//gommu:nosleep
func linkSlotsGo(links []atomic.Uint64, slots []uint32, below, depth uint64) {
	for k := len(slots) - 1; k >= 0; k-- {
		depth++
		links[slots[k]].Store(below | depth<<indexBits)
		below = uint64(slots[k])
	}
}

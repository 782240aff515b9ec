//go:build !amd64 || race

package respool

import "sync/atomic"

// linkSlots writes the links of slots: each to the next one, the last one to below, which
// has depth slots from there down.
//
//gommu:nosleep
func linkSlots(links []atomic.Uint64, slots []uint32, below, depth uint64) {
	linkSlotsGo(links, slots, below, depth)
}

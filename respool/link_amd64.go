//go:build !race

package respool

import "sync/atomic"

// linkSlots writes the links of slots: each to the next one, the last one to below, which
// has depth slots from there down. The stores are moves in the order from the last to
// the first, which x86 lets nobody see in another one, and a swap of the head follows that
// publishes them all; a sync/atomic store would be a locked exchange each.
//
//gommu:nosleep
//go:noescape
func linkSlots(links []atomic.Uint64, slots []uint32, below, depth uint64)

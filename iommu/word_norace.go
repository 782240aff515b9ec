//go:build !race

package iommu

import "sync/atomic"

// A word has one writer at a time, who need not be atomic, and readers at any time, who find out by
// other means whether what they read was meant. It is an aligned machine word, so they read
// what somebody wrote.
type word struct{ v uint64 }

//gommu:nosleep
func (w *word) set(v uint64) { w.v = v }

//gommu:nosleep
func (w *word) add(v uint64) { w.v += v }

//gommu:nosleep
func (w *word) get() uint64 { return atomic.LoadUint64(&w.v) }

// An edge is an atomic word that its owner may set without a fence: what comes after may be done before, and others see it
// at the latest when the owner is not pinned any more and the world was stopped.
type edge struct{ v uint64 }

//gommu:nosleep
func (e *edge) Load() uint64 { return atomic.LoadUint64(&e.v) }

//gommu:nosleep
func (e *edge) Store(v uint64) { atomic.StoreUint64(&e.v, v) }

//gommu:nosleep
func (e *edge) Add(v uint64) uint64 { return atomic.AddUint64(&e.v, v) }

//gommu:nosleep
func (e *edge) CompareAndSwap(old, next uint64) bool {
	return atomic.CompareAndSwapUint64(&e.v, old, next)
}

//gommu:nosleep
func (e *edge) set(v uint64) { e.v = v }

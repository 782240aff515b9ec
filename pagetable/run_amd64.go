package pagetable

// fill stores e, e+step, e+2*step... into words, each with one 8-byte store.
//
//gommu:nosleep
//go:noescape
func fill(words []uint64, e, step uint64)

// wipe clears words, each with one 8-byte store, and returns how many were
// not zero.
//
//gommu:nosleep
//go:noescape
func wipe(words []uint64) int

// inUse says whether any of words is not zero.
//
//gommu:nosleep
//go:noescape
func inUse(words []uint64) bool

// wipeLeaves clears words, each with one 8-byte store, up to the first that is
// neither zero nor has bitLeaf set. It returns how many words it passed and how many
// of them were not zero.
//
//gommu:nosleep
//go:noescape
func wipeLeaves(words []uint64) (n, gone int)

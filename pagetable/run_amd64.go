package pagetable

// put stores v with one 8-byte store. What was stored before it is seen before
// it.
//
//go:noescape
func put(p *uint64, v uint64)

// fill stores e, e+step, e+2*step... into words, each with one 8-byte store.
//
//go:noescape
func fill(words []uint64, e, step uint64)

// wipe clears words, each with one 8-byte store, and returns how many were
// not zero.
//
//go:noescape
func wipe(words []uint64) int

// inUse says whether any of words is not zero.
//
//go:noescape
func inUse(words []uint64) bool

// wipeLeaves clears words, each with one 8-byte store, up to the first that is
// neither zero nor has bitLeaf set. It returns how many words it passed and how many
// of them were not zero.
//
//go:noescape
func wipeLeaves(words []uint64) (n, gone int)

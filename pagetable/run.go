package pagetable

import "sync/atomic"

// Stores to tables. A unit's walk needs no more than that an aligned 8-byte
// store is seen whole, and that stores are seen in the order of the program;
// any store of amd64 is like that. The ones of sync/atomic are full barriers on
// top, an order of magnitude dearer, and Go has no others that a compiler may
// not tear or reorder. So on amd64 they are assembly (run_amd64.s). Here are
// their twins in Go, used elsewhere and by the tests.

// store writes one entry.
func store(p *uint64, e pte) { put(p, uint64(e)) }

// fillGo stores e, e+step, e+2*step... into words.
func fillGo(words []uint64, e, step uint64) {
	for i := range words {
		atomic.StoreUint64(&words[i], e)
		e += step
	}
}

// wipeGo clears words and returns how many were not zero.
func wipeGo(words []uint64) (n int) {
	for i := range words {
		if atomic.SwapUint64(&words[i], 0) != 0 {
			n++
		}
	}
	return n
}

// inUseGo says whether any of words is not zero.
func inUseGo(words []uint64) bool {
	for i := range words {
		if atomic.LoadUint64(&words[i]) != 0 {
			return true
		}
	}
	return false
}

// wipeLeavesGo clears words up to the first that is neither zero nor has
// bitLeaf set. It returns how many words it passed and how many of them were
// not zero.
func wipeLeavesGo(words []uint64) (n, gone int) {
	for ; n < len(words); n++ {
		e := atomic.LoadUint64(&words[n])
		if e == 0 {
			continue
		}
		if e&bitLeaf == 0 {
			break
		}
		atomic.StoreUint64(&words[n], 0)
		gone++
	}
	return n, gone
}

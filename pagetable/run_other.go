//go:build !amd64

package pagetable

func fill(words []uint64, e, step uint64)     { fillGo(words, e, step) }
func wipe(words []uint64) int                 { return wipeGo(words) }
func inUse(words []uint64) bool               { return inUseGo(words) }
func wipeLeaves(words []uint64) (n, gone int) { return wipeLeavesGo(words) }

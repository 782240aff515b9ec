//go:build !race

package pagetable

// pause is where another goroutine's step between two of ours matters. Tests under the
// race detector let others run there.
func pause() {}

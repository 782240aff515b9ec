//go:build !amd64

package cacheline

// Flush does nothing: see the package comment.
//
//gommu:nosleep
func Flush(words []uint64) {}

// Fence does nothing: see the package comment.
//
//gommu:nosleep
func Fence() {}

//go:build !amd64

package cacheline

// Flush only tells those who watch: see the package comment.
//
//gommu:nosleep
func Flush(words []uint64) {
	if all := watchers.Load(); all != nil {
		reportFlush(*all, words)
	}
}

// Fence only tells those who watch: see the package comment.
//
//gommu:nosleep
func Fence() {
	if all := watchers.Load(); all != nil {
		reportFence(*all)
	}
}

// FlushNow is Flush and Fence in one.
//
//gommu:nosleep
func FlushNow(words []uint64) {
	Flush(words)
	Fence()
}

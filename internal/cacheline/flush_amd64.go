package cacheline

// hasOpt says that the CPU has CLFLUSHOPT.
var hasOpt = hasFlushOpt()

// Flush starts to write back the cache lines that hold words, each line once.
// Writes made before to these lines are included. The write-back has happened
// for certain only after a Fence.
//
//gommu:nosleep
func Flush(words []uint64) {
	if hasOpt {
		flushOpt(words)
	} else {
		flush(words)
	}
	if all := watchers.Load(); all != nil {
		reportFlush(*all, words)
	}
}

// Fence waits for every Flush that this goroutine made before: no later store
// of it becomes visible to hardware sooner. That holds also if the goroutine has
// moved to another CPU in between: the scheduler's and the kernel's locked
// instructions order the flushes on the CPU that it left.
//
//gommu:nosleep
func Fence() {
	fence()
	if all := watchers.Load(); all != nil {
		reportFence(*all)
	}
}

// FlushNow is Flush and Fence in one, for few lines: there the calls are what takes the time.
//
//gommu:nosleep
func FlushNow(words []uint64) {
	flushNow(words, hasOpt)
	if all := watchers.Load(); all != nil {
		reportFlush(*all, words)
		reportFence(*all)
	}
}

//gommu:nosleep
//go:noescape
func flushNow(words []uint64, opt bool)

// flushOpt flushes with CLFLUSHOPT, which is not ordered with the flushes of
// other lines (Intel SDM volume 2A, CLFLUSHOPT); Fence orders it.
//
//gommu:nosleep
//go:noescape
func flushOpt(words []uint64)

// flush flushes with CLFLUSH, which every amd64 CPU has.
//
//gommu:nosleep
//go:noescape
func flush(words []uint64)

//gommu:nosleep
func fence()

// hasFlushOpt reads CPUID.(EAX=07H,ECX=0):EBX bit 23. (x/sys/cpu does not
// decode this bit.)
func hasFlushOpt() bool

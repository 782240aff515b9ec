//go:build debug

package respool_test

import (
	"math/rand/v2"
	"runtime"

	"gommu/respool"
)

const debugBuild = true

// hear keeps what the debug build notices out of what Close returns: tests wait while they hold elements.
func hear(o *respool.Options) { o.OnReport = func(respool.Report) {} }

// unsettle makes the scheduler go to somebody else in the middle of calls, so that they overlap on a
// busy machine and on one processor, too. Only a debug build can.
func unsettle() (settle func()) {
	return respool.SetTestPause(func(string) {
		if rand.IntN(4) == 0 {
			runtime.Gosched()
		}
	})
}

//go:build race

package pagetable

import (
	"math/rand/v2"
	"runtime"
	"testing"
)

// letOthersRun makes every pause of the test one at which others may run, now
// and then for many of their calls.
func letOthersRun(t *testing.T) {
	pauseHook = func() {
		n := 0
		switch r := rand.Uint32(); {
		case r%8 == 0:
			n = 1
		case r%67 == 0:
			n = 30
		}
		for range n {
			runtime.Gosched()
		}
	}
	t.Cleanup(func() { pauseHook = nil })
}

const raceEnabled = true

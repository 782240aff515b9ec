//go:build debug

package respool_test

import (
	"math/rand/v2"
	"runtime"

	"gommu/respool"
)

func init() {
	unsettle = func() (settle func()) {
		return respool.SetTestPause(func(string) {
			if rand.IntN(4) == 0 {
				runtime.Gosched()
			}
		})
	}
}

//go:build debug

package respool

import "sync/atomic"

// testPause is called, if a test has set it, between two atomic steps of a call, with the name
// of the place. It may hold the goroutine there; no lock of the ledger is held.
var testPause atomic.Pointer[func(at string)]

// pauseIf is pauseAt for a call of a stack that refuses something, which only the stack of
// ready elements is told to: goroutines that use the other one may be pinned to a processor.
func pauseIf(refuse uint64, at string) {
	if refuse != 0 {
		pauseAt(at)
	}
}

func pauseAt(at string) {
	if f := testPause.Load(); f != nil {
		(*f)(at)
	}
}

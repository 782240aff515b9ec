// Package loops has loops that end and loops that do not. // want package:"nosleep"
package loops

import "sync/atomic"

var (
	flag atomic.Bool
	word atomic.Uint64
)

//gommu:nosleep
func spins() {
	for !flag.Load() { // want `nosleep function spins spins in a loop until others have done something`
	}
}

//gommu:nosleep
func ever() {
	for { // want `spins in a loop`
	}
}

//gommu:nosleep
func never() {
	for { // want `has a loop that never ends`
		word.Add(1)
		for {
			break
		}
		switch word.Load() {
		case 1:
			break
		}
	}
}

// retries ends when its swap succeeds: whether it does is not looked at.
//
//gommu:nosleep
func retries() {
	for {
		w := word.Load()
		if word.CompareAndSwap(w, w+1) {
			return
		}
	}
}

//gommu:nosleep
func pauses() {
	for range 1000 {
	}
	for i := 0; i < 10; i++ {
	}
outer:
	for {
		for {
			break outer
		}
	}
	for {
		if flag.Load() {
			break
		}
	}
}

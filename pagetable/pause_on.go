//go:build race

package pagetable

// pauseHook is what a test wants done at each pause; set before goroutines start.
var pauseHook func()

func pause() {
	if pauseHook != nil {
		pauseHook()
	}
}

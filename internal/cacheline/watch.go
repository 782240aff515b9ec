package cacheline

import (
	"slices"
	"sync"
	"sync/atomic"
)

// A watcher is told of flushes or of fences.
type watcher struct {
	flush func(words []uint64)
	fence func()
}

var (
	// watchers is nil while there are none: what Flush and Fence look at.
	watchers atomic.Pointer[[]*watcher]
	watchMu  sync.Mutex // for changes of watchers
)

// Watch calls f with the words of every Flush from now on, until stop: in
// the goroutine that flushes, before its Flush returns, for several goroutines at
// once. The lines are written back as they are then or later. It is for
// models of memory that see only what was flushed, and works on all
// architectures. A Flush that runs when stop is called may still call f.
func Watch(f func(words []uint64)) (stop func()) { return watch(&watcher{flush: f}) }

// WatchFence calls f at every Fence, as Watch does at every Flush.
func WatchFence(f func()) (stop func()) { return watch(&watcher{fence: f}) }

func watch(w *watcher) (stop func()) {
	change(func(all []*watcher) []*watcher { return append(all, w) })
	return func() {
		change(func(all []*watcher) []*watcher {
			return slices.DeleteFunc(all, func(o *watcher) bool { return o == w })
		})
	}
}

// change replaces the list by a new one.
func change(f func([]*watcher) []*watcher) {
	watchMu.Lock()
	defer watchMu.Unlock()
	var all []*watcher
	if old := watchers.Load(); old != nil {
		all = slices.Clone(*old)
	}
	if all = f(all); len(all) == 0 {
		watchers.Store(nil)
		return
	}
	watchers.Store(&all)
}

func reportFlush(all []*watcher, words []uint64) {
	for _, w := range all {
		if w.flush != nil {
			//gommu:trust only models and tests watch
			w.flush(words)
		}
	}
}

func reportFence(all []*watcher) {
	for _, w := range all {
		if w.fence != nil {
			//gommu:trust only models and tests watch
			w.fence()
		}
	}
}

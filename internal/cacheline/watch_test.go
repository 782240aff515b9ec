package cacheline

import (
	"sync"
	"sync/atomic"
	"testing"
)

// Watchers see every flush and fence, in order, until they stop; two at once
// see the same.
func TestWatch(t *testing.T) {
	mem := make([]uint64, 32)
	var one, two []int
	stopOne := Watch(func(words []uint64) { one = append(one, len(words)) })
	stopTwo := Watch(func(words []uint64) { two = append(two, len(words)) })
	stopFence := WatchFence(func() { one = append(one, -1) })
	Flush(mem[:3])
	Fence()
	Flush(mem[4:9])
	stopTwo()
	Flush(mem[:1])
	stopFence()
	Fence()
	stopOne()
	stopOne() // again does nothing
	Flush(mem)
	Fence()
	want := func(name string, got, want []int) {
		if len(got) != len(want) {
			t.Fatalf("%s: %v, want %v", name, got, want)
		}
		for i := range got {
			if got[i] != want[i] {
				t.Fatalf("%s: %v, want %v", name, got, want)
			}
		}
	}
	want("one", one, []int{3, -1, 5, 1})
	want("two", two, []int{3, 5})
	if watchers.Load() != nil {
		t.Error("somebody still watches")
	}
}

// Watchers come and go while others flush.
func TestWatchAtOnce(t *testing.T) {
	var wg sync.WaitGroup
	var seen atomic.Int64
	for range 4 {
		wg.Go(func() {
			var mem [16]uint64
			for range 1000 {
				before := seen.Load()
				stop := Watch(func([]uint64) { seen.Add(1) })
				Flush(mem[:])
				Fence()
				if stop(); seen.Load() == before {
					t.Error("a watcher did not see its own goroutine's flush")
				}
			}
		})
	}
	wg.Wait()
	if watchers.Load() != nil {
		t.Error("somebody still watches")
	}
}

// Package blocking has what makes a goroutine wait. // want package:"nosleep"
package blocking

import (
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

var (
	ch   = make(chan int, 1)
	mu   sync.Mutex
	rw   sync.RWMutex
	once sync.Once
	wg   sync.WaitGroup
	pool sync.Pool
	m    = map[string]int{}
	word atomic.Uint64
	list [4]int
)

//gommu:nosleep
func send() {
	ch <- 1 // want `nosleep function send sends on a channel: let a goroutine that may sleep do it`
}

//gommu:nosleep
func receive() int {
	return <-ch // want `nosleep function receive receives from a channel`
}

//gommu:nosleep
func receiveOK() bool {
	_, ok := <-ch // want `receives from a channel`
	return ok
}

//gommu:nosleep
func drain() {
	for range ch { // want `receives from a channel`
	}
}

//gommu:nosleep
func closes() {
	close(ch) // want `closes a channel`
}

//gommu:nosleep
func selects() {
	select { // want `has a select statement`
	case ch <- 1:
	default:
	}
}

//gommu:nosleep
func starts() {
	go drain() // want `starts a goroutine`
}

//gommu:nosleep
func locks() {
	mu.Lock()         // want `calls sync.Mutex.Lock, which waits for other goroutines`
	defer mu.Unlock() // want `calls sync.Mutex.Unlock`
}

//gommu:nosleep
func tries() bool {
	return mu.TryLock() // want `sync.Mutex.TryLock`
}

//gommu:nosleep
func others() {
	rw.RLock()        // want `sync.RWMutex.RLock`
	once.Do(drain)    // want `sync.Once.Do`
	wg.Wait()         // want `sync.WaitGroup.Wait`
	_ = pool.Get()    // want `sync.Pool.Get`
	runtime.Gosched() // want `runtime.Gosched, which lets other goroutines run first`
	time.Sleep(1)     // want `time.Sleep, which sleeps`
	_ = time.Now()    // want `calls time.Now`
}

//gommu:nosleep
func system(f *os.File) {
	_, _ = f.Write(nil)                      // want `calls os.File.Write, which may make system calls`
	_ = os.Getpid()                          // want `calls os.Getpid, which may make system calls`
	_ = syscall.Getpid()                     // want `calls syscall.Getpid, which may make system calls`
	_, _, _ = syscall.RawSyscall(0, 0, 0, 0) // want `syscall.RawSyscall, which makes a system call`
	println("x")                             // want `prints, which is a system call`
}

//gommu:nosleep
func maps() int {
	m["a"] = 1     // want `writes to a map`
	delete(m, "a") // want `writes to a map`
	clear(m)       // want `writes to a map`
	for range m {  // want `reads a map`
	}
	n, ok := m["b"] // want `reads a map`
	if !ok {
		return len(m)
	}
	return n + m["c"] // want `reads a map`
}

// Good has nothing of it.
//
//gommu:nosleep
func good(s string) (n int) {
	defer word.Add(1)
	for i := range list {
		n += list[i]
	}
	for _, r := range s {
		n += int(r)
	}
	clear(list[:])
	if cap(ch) > 0 && word.CompareAndSwap(1, 2) {
		n++
	}
	return n + int(s[0])
}

// unchecked may do anything.
func unchecked() { mu.Lock(); ch <- <-ch; m["x"]++ }

package respool

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
)

// The peers hold the same elements: words, enough for 16 goroutines and their caches.
const benchSize = 4096

type words struct{}

func (words) Alloc(context.Context) (uint64, error) { return 1, nil }
func (words) Free(uint64) error                     { return nil }

type mutexList struct {
	mu   sync.Mutex
	free []uint64
}

func (l *mutexList) get() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(l.free) - 1
	e := l.free[n]
	l.free = l.free[:n]
	return e
}

func (l *mutexList) put(e uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.free = append(l.free, e)
}

var benchGoroutines = []int{1, 2, 4, 16}

// run divides b.N calls of op among n goroutines. Each makes its own op.
func run(b *testing.B, n int, make func(b *testing.B) (op func())) {
	b.ReportAllocs()
	ops := []func(){}
	for range n {
		ops = append(ops, make(b))
	}
	b.ResetTimer()
	var wg sync.WaitGroup
	for i, op := range ops {
		wg.Go(func() {
			for range (b.N + i) / n {
				op()
			}
		})
	}
	wg.Wait()
}

func benchPool(b *testing.B) *Pool[uint64] {
	p, err := New(context.Background(), words{}, Options{Min: benchSize, Max: benchSize})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := p.Close(context.Background()); err != nil {
			b.Error(err)
		}
	})
	return p
}

func benchCache(b *testing.B, p *Pool[uint64]) *Cache[uint64] {
	c := p.NewCache(64)
	b.Cleanup(func() {
		if err := c.Close(); err != nil {
			b.Error(err)
		}
	})
	return c
}

func check(b *testing.B, err error) {
	if err != nil {
		b.Error(err)
	}
}

// benchPeers calls each peer's op from 1, 2, 4 and 16 goroutines.
func benchPeers(b *testing.B, peers map[string]func(b *testing.B) func()) {
	names := slices.Sorted(maps.Keys(peers))
	for _, name := range names {
		for _, n := range benchGoroutines {
			b.Run(fmt.Sprintf("%s/goroutines=%d", name, n), func(b *testing.B) { run(b, n, peers[name]) })
		}
	}
}

// BenchmarkGetPut takes one element and gives it back.
func BenchmarkGetPut(b *testing.B) {
	p := benchPool(b)
	list := &mutexList{}
	channel := make(chan uint64, benchSize)
	for range benchSize {
		list.put(1)
		channel <- 1
	}
	sp := sync.Pool{New: func() any { return new(uint64) }}
	benchPeers(b, map[string]func(b *testing.B) func(){
		"pool": func(b *testing.B) func() {
			return func() {
				e, err := p.Get()
				check(b, err)
				check(b, p.Put(e))
			}
		},
		"cache": func(b *testing.B) func() {
			c := benchCache(b, p)
			return func() {
				e, err := c.Get()
				check(b, err)
				check(b, c.Put(e))
			}
		},
		"sync.Pool": func(*testing.B) func() { return func() { sp.Put(sp.Get()) } },
		"mutex":     func(*testing.B) func() { return func() { list.put(list.get()) } },
		"channel":   func(*testing.B) func() { return func() { channel <- <-channel } },
	})
}

// BenchmarkBatch takes elements and gives them back 32 at a time. A call of an op counts
// as one: divide by 32.
func BenchmarkBatch(b *testing.B) {
	const n = 32
	p := benchPool(b)
	list := &mutexList{}
	channel := make(chan uint64, benchSize)
	for range benchSize {
		list.put(1)
		channel <- 1
	}
	benchPeers(b, map[string]func(b *testing.B) func(){
		"pool": func(b *testing.B) func() {
			buf := make([]uint64, n)
			return func() {
				check(b, p.GetBatch(buf))
				check(b, p.PutBatch(buf))
			}
		},
		// What comes back in another order than it went: links have to be written.
		"pool, mixed": func(b *testing.B) func() {
			buf := make([]uint64, n)
			return func() {
				check(b, p.GetBatch(buf[:n/2]))
				check(b, p.GetBatch(buf[n/2:]))
				check(b, p.PutBatch(buf[:n/4]))
				check(b, p.PutBatch(buf[n/4:]))
			}
		},
		"cache": func(b *testing.B) func() {
			c := benchCache(b, p)
			buf := make([]uint64, n)
			return func() {
				check(b, c.GetBatch(buf))
				check(b, c.PutBatch(buf))
			}
		},
		// Twice what a cache holds: each element makes the trip to the pool.
		"cache, singly": func(b *testing.B) func() {
			c := benchCache(b, p)
			buf := make([]uint64, 4*n)
			k := 0
			return func() {
				if k++; k%4 != 0 { // every fourth call does all four's work
					return
				}
				for i := range buf {
					e, err := c.Get()
					check(b, err)
					buf[i] = e
				}
				for _, e := range buf {
					check(b, c.Put(e))
				}
			}
		},
		"mutex": func(*testing.B) func() {
			buf := make([]uint64, n)
			return func() {
				list.mu.Lock()
				at := len(list.free) - n
				copy(buf, list.free[at:])
				list.free = list.free[:at]
				list.mu.Unlock()
				list.mu.Lock()
				list.free = append(list.free, buf...)
				list.mu.Unlock()
			}
		},
		"channel": func(*testing.B) func() {
			buf := make([]uint64, n)
			return func() {
				for i := range buf {
					buf[i] = <-channel
				}
				for _, e := range buf {
					channel <- e
				}
			}
		},
	})
}

package respool

import (
	"context"
	"sync"
	"testing"
)

// The peers hold the same elements: 1024 words.
const benchSize = 1024

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

// BenchmarkGetPut takes one element and gives it back, in one goroutine and in as
// many as there are processors.
func BenchmarkGetPut(b *testing.B) {
	p, err := New(context.Background(), words{}, Options{Min: benchSize, Max: benchSize})
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close(context.Background())
	list := &mutexList{}
	channel := make(chan uint64, benchSize)
	for range benchSize {
		list.put(1)
		channel <- 1
	}
	sp := sync.Pool{New: func() any { return new(uint64) }}

	for _, peer := range []struct {
		name string
		op   func()
	}{
		{"respool", func() {
			e, err := p.Get()
			if err != nil {
				b.Error(err)
			}
			if err := p.Put(e); err != nil {
				b.Error(err)
			}
		}},
		{"sync.Pool", func() { sp.Put(sp.Get()) }},
		{"mutex", func() { list.put(list.get()) }},
		{"channel", func() { channel <- <-channel }},
	} {
		b.Run(peer.name+"/single", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				peer.op()
			}
		})
		b.Run(peer.name+"/parallel", func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					peer.op()
				}
			})
		})
	}
}

package iova

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
)

// A firstFit is what the papers of 2015 found in kernels: one ordered list of what is taken, searched from the top under one
// lock.
type firstFit struct {
	mu   sync.Mutex
	head node // a ring: head.next is the highest
	top  uint64
}

type node struct {
	run
	next, prev *node
}

func newFirstFit() *firstFit {
	f := &firstFit{top: defaultRange.Last>>pageBits + 1}
	f.head.next, f.head.prev = &f.head, &f.head
	return f
}

func (f *firstFit) alloc(pages uint64) *node {
	n := &node{}
	f.mu.Lock()
	defer f.mu.Unlock()
	above := f.top
	for at := f.head.next; ; at = at.next {
		if from := alignDown(above-pages, pages); at == &f.head || from >= at.to {
			n.run = run{from, from + pages}
			n.next, n.prev = at, at.prev
			n.prev.next, at.prev = n, n
			return n
		}
		above = at.from
	}
}

func (f *firstFit) free(n *node) {
	f.mu.Lock()
	n.prev.next, n.next.prev = n.next, n.prev
	f.mu.Unlock()
}

// A pair takes a window of 4 KiB and gives it back, so many times.
type pair func(times int) error

func (p pair) each(b *testing.B, goroutines int) {
	b.Helper()
	var all sync.WaitGroup
	var failed atomic.Pointer[error]
	b.ResetTimer()
	for range goroutines {
		all.Go(func() {
			if err := p(b.N / goroutines); err != nil {
				failed.Store(&err)
			}
		})
	}
	all.Wait()
	b.StopTimer()
	if err := failed.Load(); err != nil {
		b.Fatal(*err)
	}
}

// One window of 4 KiB is taken and given back, b.N times by all goroutines together.
func BenchmarkAllocFree(b *testing.B) {
	s, err := New(context.Background(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close(context.Background())
	list := newFirstFit()
	pairs := []struct {
		name string
		pair
	}{
		{"cache", func(times int) error {
			c := s.NewCache(4)
			defer c.Close()
			for range times {
				w, err := c.Alloc(4096)
				if err != nil {
					return err
				}
				if err := c.Free(w); err != nil {
					return err
				}
			}
			return nil
		}},
		{"space", func(times int) error {
			for range times {
				w, err := s.Alloc(4096)
				if err != nil {
					return err
				}
				if err := s.Free(w); err != nil {
					return err
				}
			}
			return nil
		}},
		{"ring", func(times int) error {
			r, err := s.NewRing(context.Background(), 2<<20, 512)
			if err != nil {
				return err
			}
			defer r.Close()
			for range times {
				w, err := r.Alloc(4096)
				if err != nil {
					return err
				}
				if err := r.Free(w); err != nil {
					return err
				}
			}
			return nil
		}},
		{"first-fit", func(times int) error {
			for range times {
				list.free(list.alloc(1))
			}
			return nil
		}},
	}
	for _, n := range []int{1, 2, 64} {
		for _, p := range pairs {
			b.Run(fmt.Sprintf("%s/%d", p.name, n), func(b *testing.B) { p.each(b, n) })
		}
	}
}

// A window of 8 KiB is taken and given back where so many holes of 4 KiB, and as many windows, lie above the first place for it: of sizes
// that are mixed, after long use.
func BenchmarkFragmented(b *testing.B) {
	for _, holes := range []int{100, 1000, 10000} {
		b.Run(fmt.Sprintf("cache/%d", holes), func(b *testing.B) {
			s, done := fragmented(b, holes)
			defer done()
			c := s.NewCache(0)
			defer c.Close()
			for b.Loop() {
				w, err := c.Alloc(8192)
				if err != nil {
					b.Fatal(err)
				}
				c.Free(w)
			}
		})
		b.Run(fmt.Sprintf("wait/%d", holes), func(b *testing.B) {
			s, done := fragmented(b, holes)
			defer done()
			for b.Loop() {
				w, err := s.AllocWait(context.Background(), Request{Size: 8192})
				if err != nil {
					b.Fatal(err)
				}
				s.FreeWait(w)
			}
		})
		b.Run(fmt.Sprintf("first-fit/%d", holes), func(b *testing.B) {
			f := newFirstFit()
			var all []*node
			for range 2 * holes {
				all = append(all, f.alloc(1))
			}
			for i := 0; i < len(all); i += 2 {
				f.free(all[i])
			}
			for b.Loop() {
				f.free(f.alloc(2))
			}
		})
	}
}

// fragmented is a space with so many holes of a page.
func fragmented(b *testing.B, holes int) (s *Space, done func()) {
	s, err := New(context.Background(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	var ws []Window
	for range 2 * holes {
		w, err := s.AllocWait(context.Background(), Request{Size: 4096})
		if err != nil {
			b.Fatal(err)
		}
		ws = append(ws, w)
	}
	for i := 0; i < len(ws); i += 2 {
		s.FreeWait(ws[i])
	}
	if s.Stats().Ranges < holes {
		b.Fatalf("%d free ranges", s.Stats().Ranges)
	}
	return s, func() {
		for i := 1; i < len(ws); i += 2 {
			s.FreeWait(ws[i])
		}
		s.Close(context.Background())
	}
}

// Mixed sizes through a cache, of which a random one is out for a while.
func BenchmarkMixed(b *testing.B) {
	s, err := New(context.Background(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close(context.Background())
	c := s.NewCache(0)
	defer c.Close()
	dice := rand.New(rand.NewPCG(1, 1))
	var sizes [1024]uint64
	for i := range sizes {
		sizes[i] = 4096 << dice.IntN(9)
	}
	var out [8]Window
	i := 0
	for b.Loop() {
		if w := out[i&7]; w.Number != 0 {
			c.Free(w)
		}
		w, err := c.Alloc(sizes[i&1023])
		if err != nil {
			b.Fatal(err)
		}
		out[i&7] = w
		i++
	}
	for _, w := range out {
		if w.Number != 0 {
			c.Free(w)
		}
	}
}

// What a space without windows in use holds.
func BenchmarkNew(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		s, err := New(context.Background(), Options{})
		if err != nil {
			b.Fatal(err)
		}
		s.Close(context.Background())
	}
}

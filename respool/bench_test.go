package respool_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// The benchmarks put the pool and its caches beside what else could hold the same elements: see
// peers. Each runs with every peer, in 1, 2, 4 and 16 goroutines; one op is one element got
// and put, unless it is said otherwise.
//
// GetPut and Batch run for -benchtime. The others make a fixed number of calls, so that all together take some
// two minutes: their ns/op is right (in Latency that of a call with its measuring), the count before it and allocations are not.

// benchSize is how many elements a peer holds: enough for 16 goroutines and their caches.
const benchSize = 4096

// crossingSize is that of BenchmarkCrossing.
const crossingSize = 64

// fixedCalls is how many elements the benchmarks of fixed size get and put.
const fixedCalls = 500_000

// eachPeer runs op for each peer and number of goroutines. It makes user after user and then
// lets each op do its part of n, all at once.
func eachPeer(b *testing.B, peers []peer, size int, n func(b *testing.B) int, op func(b *testing.B, u user) func(n int)) {
	for _, p := range peers {
		for _, goroutines := range []int{1, 2, 4, 16} {
			if p.few && goroutines > 2 {
				continue
			}
			b.Run(fmt.Sprintf("%s/goroutines=%d", p.name, goroutines), func(b *testing.B) {
				share(b, p, goroutines, size, n(b), op)
			})
		}
	}
}

func share(b *testing.B, p peer, goroutines, size, n int, op func(b *testing.B, u user) func(n int)) {
	join := p.open(b, size)
	ops := make([]func(int), goroutines)
	for i := range ops {
		ops[i] = op(b, join(b))
	}
	b.ResetTimer()
	var wg sync.WaitGroup
	for i, op := range ops {
		wg.Go(func() { op((n + i) / goroutines) })
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/op")
}

func asked(b *testing.B) int { b.ReportAllocs(); return b.N }

// fixed is the number of calls of a benchmark that package testing shall not make longer.
func fixed(b *testing.B) int { return min(b.N, fixedCalls) }

// BenchmarkGetPut takes one element and gives it back.
func BenchmarkGetPut(b *testing.B) {
	eachPeer(b, peers, benchSize, asked, func(_ *testing.B, u user) func(int) { return u.pairs })
}

// BenchmarkBatch takes 32 elements and gives them back.
func BenchmarkBatch(b *testing.B) {
	peers := append(variants, peers...)
	eachPeer(b, peers, benchSize, asked, func(_ *testing.B, u user) func(int) {
		buf := make([]uint64, batchSize)
		return func(n int) {
			for ; n > 0; n -= len(buf) {
				u.batch(buf)
			}
		}
	})
}

// BenchmarkBurst takes up to 64 elements one by one and then gives them back.
func BenchmarkBurst(b *testing.B) {
	eachPeer(b, peers, benchSize, fixed, func(b *testing.B, u user) func(int) {
		held, r := make([]uint64, 0, 64), rand.New(rand.NewPCG(1, 2))
		return func(n int) {
			for n > 0 {
				for range min(n, 1+r.IntN(64)) {
					if e, ok := u.get(); ok {
						held = append(held, e)
					} else {
						b.Error("empty")
					}
				}
				n -= max(1, len(held))
				held = putAll(u, held)
			}
		}
	})
}

// BenchmarkCrossing takes from a small stock until it is empty, then gives back what it took. So
// one goroutine is refused at every 65th get, and several by turns: empty/op is how often. What is
// never empty allocates instead, and a goroutine takes no more than there were.
func BenchmarkCrossing(b *testing.B) {
	var refused atomic.Int64
	refusals := func(b *testing.B) int {
		refused.Store(0)
		b.Cleanup(func() { b.ReportMetric(float64(refused.Load())/float64(fixed(b)), "empty/op") })
		return fixed(b)
	}
	eachPeer(b, peers, crossingSize, refusals, func(_ *testing.B, u user) func(int) {
		held := make([]uint64, 0, crossingSize+1)
		return func(n int) {
			for n > 0 {
				e, ok := u.get()
				if ok {
					held = append(held, e)
					n--
				} else {
					refused.Add(1)
				}
				if !ok && len(held) == 0 {
					runtime.Gosched() // others have all
				}
				if !ok || len(held) > crossingSize {
					held = putAll(u, held)
				}
			}
			putAll(u, held)
		}
	})
}

func putAll(u user, held []uint64) []uint64 {
	for _, e := range held {
		u.put(e)
	}
	return held[:0]
}

// BenchmarkLatency measures each get and each put by itself, in a closed loop in which a goroutine
// holds 8 elements. What the clock costs is in every figure: the peer "nothing" shows how much.
func BenchmarkLatency(b *testing.B) { latency(b) }

// BenchmarkLatencyNeighbour is BenchmarkLatency beside a goroutine that allocates as fast as it can,
// so that the garbage collector runs all the time.
func BenchmarkLatencyNeighbour(b *testing.B) {
	var stop atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		kept := make([][]*[64]byte, 1024)
		for i := 0; !stop.Load(); i++ {
			row := make([]*[64]byte, 64)
			for k := range row {
				row[k] = new([64]byte)
			}
			kept[i%len(kept)] = row
		}
	})
	b.Cleanup(func() { stop.Store(true); wg.Wait() })
	latency(b)
}

func latency(b *testing.B) {
	peers := append([]peer{{name: "nothing", open: openNothing}}, peers...)
	var all []*hdrhistogram.Histogram
	count := func(b *testing.B) int {
		all = nil
		b.Cleanup(func() { reportPercentiles(b, all) })
		return fixed(b)
	}
	eachPeer(b, peers, benchSize, count, func(b *testing.B, u user) func(int) {
		h := hdrhistogram.New(1, int64(10*time.Second), 3)
		all = append(all, h)
		var held [8]uint64
		for i := range held {
			held[i], _ = u.get()
		}
		b.Cleanup(func() { putAll(u, held[:]) })
		return func(n int) {
			base := time.Now()
			for i := range n {
				t0 := time.Since(base)
				e, ok := u.get()
				t1 := time.Since(base)
				u.put(held[i%len(held)])
				t2 := time.Since(base)
				held[i%len(held)] = e
				if !ok {
					b.Error("empty")
				}
				_ = h.RecordValue(int64(t1 - t0)) // no call takes longer than what it has room for
				_ = h.RecordValue(int64(t2 - t1))
			}
		}
	})
}

func reportPercentiles(b *testing.B, all []*hdrhistogram.Histogram) {
	sum := all[0]
	for _, h := range all[1:] {
		sum.Merge(h)
	}
	for _, q := range []float64{50, 99, 99.9, 99.99} {
		b.ReportMetric(float64(sum.ValueAtQuantile(q)), fmt.Sprintf("p%v-ns", q))
	}
}

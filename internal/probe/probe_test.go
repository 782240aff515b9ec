package probe

import (
	"sync/atomic"
	"testing"
)

// TestWords checks what tracers rely on: behind the mark lie the version and the words, and all are off.
func TestWords(t *testing.T) {
	if table.mark != Mark || table.version != Version || int(table.points) != len(table.words) {
		t.Errorf("table %+v", table)
	}
	for p := range Points {
		if On(p) {
			t.Errorf("probe %d is on and nobody traces", p)
		}
	}
}

// attach does what the kernel does while tracers are attached, and returns what it does when they go.
func attach(p Point) (detach func()) {
	atomic.AddUint32(&table.words[p], 1)
	return func() { atomic.AddUint32(&table.words[p], ^uint32(0)) }
}

func TestOn(t *testing.T) {
	first := attach(Flush)
	second := attach(Flush)
	for p := range Points {
		if On(p) != (p == Flush) {
			t.Errorf("probe %d: %v", p, On(p))
		}
	}
	first()
	if !On(Flush) {
		t.Error("off while one of two tracers is left")
	}
	second()
	if On(Flush) {
		t.Error("on after the last tracer")
	}
}

// TestSampled checks the rate. The bounds are ten standard deviations wide.
func TestSampled(t *testing.T) {
	const calls = 1 << 16
	share := func() (n int) {
		for range calls {
			if Sampled() {
				n++
			}
		}
		return n
	}
	if n := share(); n != calls {
		t.Errorf("%d of %d calls without a rate", n, calls)
	}
	defer attach(SampleBit1)()
	if n := share(); n < 15268 || n > 17500 {
		t.Errorf("%d of %d calls at a rate of 1/4", n, calls)
	}
	defer attach(SampleBit0)()
	if n := share(); n < 7330 || n > 9054 {
		t.Errorf("%d of %d calls at a rate of 1/8", n, calls)
	}
}

func TestAllocations(t *testing.T) {
	defer attach(SampleBit2)()
	n := testing.AllocsPerRun(1000, func() {
		if !On(Map) && Sampled() {
			CallMap(1, Several, 0, 0, 0, Done, 0)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

var sink uint64

//go:noinline
func work(i uint64) uint64 { return i*0x9e3779b97f4a7c15 ^ i>>7 }

//go:noinline
func workWatched(i uint64) uint64 {
	v := i*0x9e3779b97f4a7c15 ^ i>>7
	if On(Map) {
		CallMap(1, Several, i, v, 3, Done, 0)
	}
	return v
}

// BenchmarkSite is a function of a nanosecond without a probe and with one that nobody traces.
func BenchmarkSite(b *testing.B) {
	b.Run("without", func(b *testing.B) {
		for i := uint64(0); b.Loop(); i++ {
			sink += work(i)
		}
	})
	b.Run("with", func(b *testing.B) {
		for i := uint64(0); b.Loop(); i++ {
			sink += workWatched(i)
		}
	})
}

package cacheline

import (
	"runtime/debug"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

const wordsPerPage = 512

// guarded returns one page of words between two pages that fault when they
// are touched, be it by a flush.
func guarded(t *testing.T) []uint64 {
	t.Helper()
	page := unix.Getpagesize()
	mem, err := unix.Mmap(-1, 0, 3*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Munmap(mem) })
	for _, guard := range [][]byte{mem[:page], mem[2*page:]} {
		if err := unix.Mprotect(guard, unix.PROT_NONE); err != nil {
			t.Fatal(err)
		}
	}
	return words(mem[page : page+8*wordsPerPage])
}

// A flush touches no line beyond the ones that hold its words: at both ends of
// the page the next line would fault. It keeps what was written.
func TestFlushStaysInside(t *testing.T) {
	mem := guarded(t)
	for i := range mem {
		mem[i] = uint64(i) * 0x9e3779b97f4a7c15
	}
	flushers := map[string]func([]uint64){"Flush": Flush, "FlushNow": FlushNow}
	for name, f := range variants() {
		flushers[name] = f
	}
	for name, f := range flushers {
		t.Run(name, func(t *testing.T) {
			for n := range 20 {
				for off := range 20 {
					f(mem[off : off+n])
					f(mem[wordsPerPage-off-n : wordsPerPage-off])
				}
			}
			f(mem)
			f(nil)
			Fence()
		})
	}
	for i := range mem {
		if mem[i] != uint64(i)*0x9e3779b97f4a7c15 {
			t.Fatalf("word %d changed to %#x", i, mem[i])
		}
	}
}

func TestFlushAllocatesNothing(t *testing.T) {
	mem := guarded(t)
	if n := testing.AllocsPerRun(100, func() { Flush(mem); Fence() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkFlush(b *testing.B) {
	mem := make([]uint64, wordsPerPage)
	for name, f := range variants() {
		for _, n := range []int{1, 32, wordsPerPage} {
			b.Run(name+"/words="+strconv.Itoa(n), func(b *testing.B) {
				for b.Loop() {
					for i := 0; i < n; i += Size / 8 {
						mem[i]++
					}
					f(mem[:n])
					Fence()
				}
			})
		}
	}
}

// The first and the last line belong to the flush: words that reach into a
// page that faults make it fault. (Where Flush does nothing there is nothing
// to test.)
func TestFlushReachesEnds(t *testing.T) {
	page := unix.Getpagesize()
	mem, err := unix.Mmap(-1, 0, 3*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(mem)
	if err := unix.Mprotect(mem[page:2*page], unix.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	all := words(mem)
	n := page / 8
	for name, f := range variants() {
		for _, r := range [][2]int{{n - 1, n + 1}, {2*n - 1, 2*n + 1}, {0, 3 * n}, {n - 7, n + 1}} {
			if !faults(func() { f(all[r[0]:r[1]]) }) {
				t.Errorf("%s of words %d to %d of a page of %d misses the next page", name, r[0], r[1], n)
			}
		}
		if faults(func() { f(all[:n]); f(all[2*n:]) }) {
			t.Errorf("%s faults on accessible memory", name)
		}
	}
}

func faults(f func()) (faulted bool) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() { faulted = recover() != nil }()
	f()
	return false
}

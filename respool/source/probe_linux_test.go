package source

import (
	"bytes"
	"context"
	"os"
	"reflect"
	"sync"
	"syscall"
	"testing"
)

// A probe is the kernel, watched: it fails the calls it is told to, and maps ordinary memory shared, so that
// /proc/self/maps names it.
type probe struct {
	mu    sync.Mutex
	calls int
	fail  func(call int, name string) error // asked at each call, counted from 1
	flags []int                             // of each mmap
}

func (p *probe) called(name string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls++
	if p.fail == nil {
		return nil
	}
	return p.fail(p.calls, name)
}

func (p *probe) system() system {
	return system{
		mmap: func(n, flags int) ([]byte, error) {
			p.mu.Lock()
			p.flags = append(p.flags, flags)
			p.mu.Unlock()
			if err := p.called("mmap"); err != nil {
				return nil, err
			}
			if flags&mapHugeTLB == 0 {
				flags = flags&^syscall.MAP_PRIVATE | syscall.MAP_SHARED
			}
			return kernel.mmap(n, flags)
		},
		munmap: func(b []byte) error {
			if err := p.called("munmap"); err != nil {
				return err
			}
			return kernel.munmap(b)
		},
		madvise: func(b []byte, advice int) error {
			name := "advise"
			if advice == madvPopulateWrite {
				name = "populate"
			}
			if err := p.called(name); err != nil {
				return err
			}
			return kernel.madvise(b, advice)
		},
	}
}

// mappings counts what probes and HugePages have mapped in this process.
func mappings(t testing.TB) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Count(b, []byte("/dev/zero")) + bytes.Count(b, []byte("/anon_hugepage"))
}

// noLeak checks at the end of the test that no mapping is left.
func noLeak(t *testing.T) {
	t.Helper()
	before := mappings(t)
	t.Cleanup(func() {
		if n := mappings(t); n != before {
			t.Errorf("%d mappings left, %d before", n, before)
		}
	})
}

// A memory is Pages or HugePages.
type memory interface {
	Alloc(context.Context) (Block, error)
	Free(Block) error
	Bytes(Block) []byte
	Stats() MemoryStats
	Close() error
}

type fataler interface {
	Helper()
	Fatalf(string, ...any)
}

func alloc(t fataler, m memory) Block {
	t.Helper()
	b, err := m.Alloc(context.Background())
	if err != nil {
		t.Fatalf("Alloc: %v", err)
	}
	return b
}

func free(t fataler, m memory, bs ...Block) {
	t.Helper()
	for _, b := range bs {
		if err := m.Free(b); err != nil {
			t.Fatalf("Free(%v): %v", b, err)
		}
	}
}

// end closes m, which must hold nothing by then.
func end(t fataler, m memory) {
	t.Helper()
	if s := m.Stats(); s != (MemoryStats{}) {
		t.Fatalf("everything is back, and yet %+v", s)
	}
	if err := m.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
}

// paint writes v all over b, which must be zero.
func paint(t fataler, b []byte, v byte) {
	t.Helper()
	for i := range b {
		if b[i] != 0 {
			t.Fatalf("byte %d of a new block is %#x", i, b[i])
		}
		b[i] = v
	}
}

// painted checks that b is still as paint left it.
func painted(t fataler, b []byte, v byte) {
	t.Helper()
	for i := range b {
		if b[i] != v {
			t.Fatalf("byte %d is %#x, was written %#x", i, b[i], v)
		}
	}
}

func address(b []byte) uintptr { return reflect.ValueOf(b).Pointer() }

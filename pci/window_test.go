package pci

import (
	"encoding/binary"
	"errors"
	"runtime"
	"sync"
	"testing"
)

func TestWindow(t *testing.T) {
	mem := make([]byte, 32)
	w, err := NewWindow(mem[:28])
	if err != nil {
		t.Fatal(err)
	}
	w.Write32(4, 0x11223344)
	w.Write64(8, 0x0102030405060708)
	if got := binary.NativeEndian.Uint32(mem[4:]); got != 0x11223344 {
		t.Errorf("memory holds %#x", got)
	}
	if w.Read32(4) != 0x11223344 || w.Read64(8) != 0x0102030405060708 || w.Size() != 28 {
		t.Errorf("read %#x, %#x of %d bytes", w.Read32(4), w.Read64(8), w.Size())
	}
	outside := map[string]func(){
		"end":        func() { w.Read32(28) },
		"over end":   func() { w.Read64(24) },
		"far":        func() { w.Write32(1<<63, 0) },
		"wrap":       func() { w.Write64(^uint64(7), 0) },
		"misaligned": func() { w.Read32(2) },
		"half":       func() { w.Write64(4, 0) },
	}
	for name, f := range outside {
		if !panics(f) {
			t.Errorf("%s: no panic", name)
		}
	}
	w.Close()
	if w.Size() != 0 || !panics(func() { w.Read32(0) }) {
		t.Error("a closed window can be read")
	}
	if _, err := NewWindow(mem[4:]); !errors.Is(err, ErrBadBAR) {
		t.Errorf("misaligned memory: %v", err)
	}
}

// TestWindowPublishes: a doorbell written by one goroutine and polled by another is no race, and neither is
// what was written before it. The race detector is the judge.
func TestWindowPublishes(t *testing.T) {
	w, err := NewWindow(make([]byte, 16))
	if err != nil {
		t.Fatal(err)
	}
	var ring [2]int
	var wg sync.WaitGroup
	wg.Go(func() {
		ring[0] = 1
		w.Write32(0, 1)
		ring[1] = 2
		w.Write64(8, 1)
	})
	for w.Read32(0) != 1 {
		runtime.Gosched()
	}
	if ring[0] != 1 {
		t.Error("the doorbell came before what it announces")
	}
	for w.Read64(8) != 1 {
		runtime.Gosched()
	}
	if ring[1] != 2 {
		t.Error("the second doorbell came before what it announces")
	}
	wg.Wait()
}

func panics(f func()) (did bool) {
	defer func() { did = recover() != nil }()
	f()
	return false
}

package iova

import (
	"math/bits"
	"sync/atomic"
)

const (
	// Classes is how many sizes of windows are kept ready: the powers of two from PageSize to MaxSize.
	Classes = 19

	PageSize = 1 << pageBits // 4 KiB, the smallest window
	MaxSize  = 1 << 30       // 1 GiB, the largest that is kept ready

	pageBits  = 12
	chunkBits = 21 // 2 MiB, what one leaf table maps
	areaBits  = 30 // 1 GiB, what one directory of leaf tables maps

	chunkClass = chunkBits - pageBits // the first class whose windows are not carved from a chunk
)

// ClassSize is the bytes of a window of class k, from 0 to Classes-1, with its guard page if the space has these.
func ClassSize(k int) uint64 { return PageSize << k }

// A Window is a run of I/O virtual addresses that a Space handed out. It is a value; copies are the same
// window, which is freed once.
type Window struct {
	Start  uint64 // the first IOVA, a multiple of 4096
	Size   uint64 // the bytes that are the holder's, a multiple of 4096 and never less than was asked for
	Number uint32 // of the windows that exist no two have the same; 0 < Number <= Options.MaxWindows
	state  uint32 // of its record while it is out
}

// A record is what the table, by number, knows of a window. It holds no pointer. Who has the number, a pool, a cache, or
// who the window was handed to, is the only one to write it, on a cache line of its own: windows that are neighbours may have
// different owners.
type record struct {
	start uint64
	state uint32 // bit 0: the window is out; above it a count of how often it was
	where uint32 // the kind in the lowest 5 bits, above it the index of the chunk, or the place in the ring
	_     [64 - 16]byte
}

const (
	out = 1 // in record.state

	kindBits = 5
	kindMask = 1<<kindBits - 1

	// Kinds that are no class.
	kindWait = Classes
	kindRing = Classes + 1

	// maxWindows is what fits into a pool and into record.where.
	maxWindows = 1 << 23
)

// A table has a record for each number.
type table []record

// of is the record of w, if w is out.
//
//gommu:nosleep
func (t table) of(w Window) *record {
	if uint(w.Number) >= uint(len(t)) {
		return nil
	}
	r := &t[w.Number]
	if w.state&out == 0 || r.state != w.state || r.start != w.Start {
		return nil
	}
	return r
}

// end marks w as free. Of calls at the same time one succeeds.
//
//gommu:nosleep
func (t table) end(w Window) bool {
	return uint(w.Number) < uint(len(t)) && w.state&out != 0 &&
		atomic.CompareAndSwapUint32(&t[w.Number].state, w.state, w.state+1)
}

// undo is the reverse of end.
//
//gommu:nosleep
func (t table) undo(w Window) { atomic.StoreUint32(&t[w.Number].state, w.state) }

// out hands out number n, which nobody else has.
//
//gommu:nosleep
func (t table) out(n uint32, size uint64) Window {
	r := &t[n]
	r.state |= out
	return Window{Start: r.start, Size: size, Number: n, state: r.state}
}

// classOf is the smallest class of n bytes, n being neither 0 nor above MaxSize.
//
//gommu:nosleep
func classOf(n uint64) int { return bits.Len64((n - 1) >> pageBits) }

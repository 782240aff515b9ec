package pci

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"unsafe"
)

// Loads are atomics: on amd64 and arm64 an atomic load is one instruction that moves the whole
// width, and the compiler neither merges such loads nor hoists them out of a polling loop.
//
// Stores are not, on amd64: there sync/atomic stores with XCHG, which reads the location before it
// writes it. A register that changes when it is read (interrupt causes often do) would be read
// behind the driver's back. A plain store in a function that is never inlined is one MOV, once per
// call and in program order, and amd64 lets no later store pass it. Other architectures need the order
// that their atomic store (STLR on arm64) gives and have no read in it.
//
// The race detector knows only atomics: for it a plain store beside the loads would be a race, and what
// the store publishes unordered. Under it stores are atomic too.
const plainStores = runtime.GOARCH == "amd64" && !raceEnabled

//gommu:nosleep
func load32(mem []byte, off uint64) uint32 {
	return atomic.LoadUint32((*uint32)(at(mem, off, 4)))
}

//gommu:nosleep
func load64(mem []byte, off uint64) uint64 {
	return atomic.LoadUint64((*uint64)(at(mem, off, 8)))
}

//gommu:nosleep
func store32(mem []byte, off uint64, v uint32) {
	p := (*uint32)(at(mem, off, 4))
	if plainStores {
		plainStore32(p, v)
		return
	}
	atomic.StoreUint32(p, v)
}

//gommu:nosleep
func store64(mem []byte, off uint64, v uint64) {
	p := (*uint64)(at(mem, off, 8))
	if plainStores {
		plainStore64(p, v)
		return
	}
	atomic.StoreUint64(p, v)
}

//gommu:nosleep
//go:noinline
func plainStore32(p *uint32, v uint32) { *p = v }

//gommu:nosleep
//go:noinline
func plainStore64(p *uint64, v uint64) { *p = v }

// at is the address of width bytes at off, which must be inside mem and aligned.
//
//gommu:nosleep
func at(mem []byte, off, width uint64) unsafe.Pointer {
	if n := uint64(len(mem)); off > n || n-off < width || off%width != 0 {
		panic(fmt.Sprintf("pci: %d-byte access at offset %#x of a window of %#x bytes: out of range or misaligned", width, off, n))
	}
	return unsafe.Add(unsafe.Pointer(unsafe.SliceData(mem)), off)
}

func aligned8(mem []byte) bool {
	return uintptr(unsafe.Pointer(unsafe.SliceData(mem)))%8 == 0
}

package probe

import (
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// A Point is the number of a probe.
type Point int

// The probes, in the order of their words.
const (
	Map Point = iota
	Unmap
	Flush
	PoolGrow
	PoolShrink
	PoolEmpty
	Fault

	// These have no calls: an uprobe on the function of bit i adds 2^i to the logarithm of
	// the sampling rate, see Sampled.
	SampleBit0
	SampleBit1
	SampleBit2
	SampleBit3

	Points // how many there are
)

// Version is that of the interface: 1.
const Version = 1

// Off is the word of a probe that nobody traces. It is not 0 because what is all zeros lies
// in .bss, which has no place in the file, and so no offset that a tracer could name.
const Off = 1

// Mark is what tracers look for in the section .noptrdata of a program's file. Behind it,
// without gaps, come Version and the number of words, and the words: uint32, in the order of the bytes of the machine.
var Mark = [16]byte{'g', 'o', 'm', 'm', 'u', 0, 'p', 'r', 'o', 'b', 'e', 's', 0, 0x1f, 0xd5, 0xa7}

// table must stay initialised without code, of one length, and without pointers, to lie in .noptrdata.
var table = struct {
	mark            [16]byte
	version, points uint32
	words           [Points]uint32
}{
	[16]byte{'g', 'o', 'm', 'm', 'u', 0, 'p', 'r', 'o', 'b', 'e', 's', 0, 0x1f, 0xd5, 0xa7},
	Version, uint32(Points), [Points]uint32{Off, Off, Off, Off, Off, Off, Off, Off, Off, Off, Off},
}

// Begin is where a call begins at whose end a probe may be: it returns the time, or 0 if nobody
// wants to be told of this call, which is all that an untraced call does. It is written to be inlined.
//
//gommu:nosleep
func Begin(p Point) (at int64) {
	if On(p) {
		at = begin()
	}
	return at
}

//gommu:nosleep
func begin() int64 {
	if !Sampled() {
		return 0
	}
	return now()
}

// Since is for how many nanoseconds a call has been under way that began at begin.
//
//gommu:nosleep
func Since(begin int64) uint64 { return uint64(now() - begin) }

var start = time.Now()

// now is the monotonic clock, in nanoseconds; never 0.
//
//gommu:nosleep
func now() int64 { return int64(time.Since(start)) + 1 } //gommu:trust one look at the clock, which needs no system call

// Sampled says whether this call of a probe that is on is one of those that the tracer wants to see:
// one in 2^k at random, where the bits of k are the words from SampleBit0 on. The cost of
// a call that is seen is a trap into the kernel, which a filter there would come too late for.
//
//gommu:nosleep
func Sampled() bool {
	if table.points == 0 { // never; but the linker keeps them for it
		CallSampleBit0()
		CallSampleBit1()
		CallSampleBit2()
		CallSampleBit3()
	}
	k := 0
	for i := range 4 {
		if atomic.LoadUint32(&table.words[SampleBit0+Point(i)]) != Off {
			k += 1 << i
		}
	}
	return k == 0 || rand.Uint32()>>(32-k) == 0 //gommu:trust a generator of the thread's own, in the runtime: no lock, no allocation
}

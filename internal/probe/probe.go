package probe

import (
	"math/rand/v2"
	"sync/atomic"
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

// On says whether somebody traces a probe. Only then its function is called, and what
// it is to be told has to be found out.
//
//gommu:nosleep
func On(p Point) bool { return atomic.LoadUint32(&table.words[p]) != Off }

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

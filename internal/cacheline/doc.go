// Package cacheline writes CPU cache lines back to memory, for hardware that
// reads memory past the CPU's caches: a VT-d unit whose page walks do not
// snoop (ECAP.C = 0).
//
// On amd64 Flush uses CLFLUSHOPT where the CPU has it, else CLFLUSH, and Fence
// is SFENCE; both instructions may be used in user mode. Elsewhere both do
// nothing: VT-d units exist on x86 only, and the emulated and modelled units
// that other machines can run see what the CPU sees.
//
// Both functions never block, allocate nothing, and are safe to call at once
// from several goroutines.
//
// Watch and WatchFence show a model of memory what was flushed and when. They cost
// a load and a branch while nobody watches.
package cacheline

// Size is the number of bytes in a cache line of every x86-64 CPU.
const Size = 64

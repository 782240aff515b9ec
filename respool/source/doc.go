// Package source has the sources that pools are usually put in front of: memory outside
// the Go heap, hugepages and Go values, and one that fails on demand, for tests. Each
// is a [respool.Source].
//
//   - [Pages] maps anonymous memory and hands out blocks of a page, or of any size.
//   - [HugePages] carves blocks out of hugepages. A block never crosses one.
//   - [Values] makes Go values with a function.
//   - [Faulty] stands before another source and fails, delays or blocks its calls.
//
// # Blocks
//
// The element of Pages and HugePages is a [Block]: two small numbers and a serial
// number. The source knows where its memory is (Bytes), as a pagetable.Memory knows
// where its frames are. A []byte would save that call, but would put a pointer into every slot
// of the pool, which the garbage collector then scans, and would say nothing about who made
// it. The serial number is new at each Alloc and never used again in this process. So Free refuses, always,
// a block that is not out: one of another source, one given back twice, and one whose
// memory was handed out again since. Bytes returns nil for them.
//
// What Bytes returns does not move. Its length and capacity are the block's size. A block
// smaller than a page starts on a multiple of its size, rounded up to a power of two, and does not cross a page; a
// larger one starts on a page, one of HugePages on a multiple of its size. Blocks of
// whole pages can be mapped for a device as they are (vfio) and can be the Mem of a
// pagetable.Segment. Never keep the memory beyond Free: it may be unmapped by
// then, and touching it ends the process.
//
// # Ownership
//
// Memory is mapped in chunks of many blocks and belongs to the source; a block belongs to
// whom Alloc gave it until Free took it back. A chunk whose blocks are all back is unmapped at once:
// the pool in front decides how much is kept, and these sources cache nothing. Alloc fills the
// first chunk that has room, so that the others can empty. A block that Alloc
// returns is zero and its pages are present: the first store to it faults only if the
// kernel took the page away since. Nothing here locks pages against swapping;
// a device driver that pins them does.
//
// Faulty keeps the elements whose Free it failed, because the source before which it
// stands never saw them: Reclaim gives them back.
//
// # Debug builds
//
// Pages and HugePages are [respool.Poisoner]s: in a debug build of the pool a block that lies
// in it has its bits inverted, so that who reads it after it was put reads nonsense, and who
// writes it, a device included, is found out when it leaves. Then it has again the contents
// with which it was put. Values does what it is told to, Faulty what the source behind it does.
//
// # What may block
//
// Alloc, Free, Stats and Close of Pages and HugePages take a mutex that is held during mmap,
// munmap and the first touch of new memory: microseconds for a page, up to seconds for a hugepage of 1 GiB.
// Alloc looks at its context before that only. Bytes never blocks, takes no lock and allocates
// nothing. Faulty waits as long as it is told to; Values as long as its functions do.
//
// All methods may be called at once from several goroutines.
//
// Pages and HugePages exist on Linux only.
package source

// Package iova hands out windows of an I/O address space without sleeping.
//
// A [Space] keeps windows ready in 19 size classes, the powers of two from 4 KiB to 1 GiB, each
// a [respool.Pool]: Alloc takes one out of what is ready, Free puts it back, and the pools' workers make more
// and give back what stays unused. A [Cache] is an owner's stock in front of these. A [Ring] hands out windows
// of one range in circular order. What fits no class, or has to lie in a special place, AllocWait takes straight from the range
// structure behind.
//
// # Ownership
//
// A [Window] is a value and belongs to who got it until it is freed, once. It says nothing about what is mapped there:
// who frees it has unmapped it and has waited for the invalidation, for the next Alloc may hand it out. A second Free is refused
// with [ErrNotOut], even after the window was handed out again; only of two calls of caches
// at the same moment, a race that the race detector reports, both may pass.
//
// Each window that exists has a Number of its own, up to Options.MaxWindows, that a user may index
// tables by. The number of a window may change whenever it is freed; a window keeps it while it is out.
//
// A space owns a goroutine for each class in use, the pool's worker, which Close stops. Windows in caches and rings belong to their
// owners: Close waits for these as for those that are out.
//
// # What may block
//
// Alloc, Free and FreeBatch of a Space, and Alloc, Free, Flush and Close of a Cache, and Alloc and Free of a Ring never
// do: they park no goroutine, make no system call, allocate nothing and take no lock. (The error of a Free or Alloc that
// is the caller's mistake is allocated.) New, AllocWait, FreeWait, NewRing, Ring.Close and Close take a mutex, and call Prepare and Retire,
// as the workers do. Stats takes the mutex. No hook is called with the mutex held.
//
// All methods of a Space may be called at once from several goroutines; those of a Cache or a Ring by one at a
// time.
//
// # Chunks
//
// Windows smaller than 2 MiB are cut from chunks of 2 MiB, what one leaf table maps. A chunk belongs to one class as long as
// any of its windows exists, and is given back to the range when all of them are back from the class's pool: then
// it merges with its neighbours. Windows of 2 MiB and more are taken from the range one by one, aligned to their size.
// Everything is taken from the highest place that fits, so low addresses stay free for who needs them.
//
// Prepare and Retire bracket the time during which a block of 2 MiB, or of 1 GiB, is used by windows smaller than it: see Options.
// With them a table's leaf tables and directories are there before any window of theirs is, and are taken down, with
// the invalidations that this needs, before the range is used for something else.
//
// # Fragmentation
//
// A class takes a new chunk only when no chunk of its has a window left, and cuts the chunk that has
// the fewest left. So the chunks of a class are never more than are filled by the most windows of it that existed at a
// time: ceil(peak / windows in a chunk), the peak being at most Stock.Max. They may stay that many while
// fewer windows exist, since one window keeps its chunk: the worst case is one chunk for each window that
// exists. Once all windows are back, and the worker has shrunk the pool, no more than Stock.High windows exist
// and so no more than as many chunks.
// A window of a class takes up to twice what was asked for, and with a guard page up to twice that and a page.
//
// Windows of AllocWait take no more than their pages, and of equal places the highest, so small ones fill
// the gaps that larger alignments left.
//
// # Who shares a chunk
//
// A worker adds windows to a pool in the order of their addresses, and a cache takes its batch from the top: a fresh batch is a
// run of neighbours, and Alloc hands it out from the lowest to the highest. So owners with caches of at least a chunk's
// windows would not share leaf tables, and with smaller ones a chunk is shared by as many as batches fit into it. Nothing keeps that order
// once windows have come back in another one, through other owners or from the middle: it is a tendency that serves the device's caches,
// and is no isolation. A Ring has its chunks for itself.
//
// # Cost
//
// The range structure is a tree of free runs, ordered by address, each node of which knows the longest run and the largest aligned block
// of its subtree. To take an aligned window or a chunk, and to give one back, takes time that grows with the
// logarithm of the free runs, whatever has happened before.
//
// Memory: 64 bytes for each of MaxWindows, about 16 for each of Stock.Max of each class, 64 for each free run, and 100 for each chunk
// in use. With the defaults that is 7.3 MB, nearly all without pointers, of which an idle space has touched 1.2.
//
// What a window of 4 KiB costs, Alloc and Free together, in ns, the best of twelve short runs on two cores of a virtual AMD EPYC that
// were shared with much else (go test -bench AllocFree; the list is one under a mutex, searched first fit, as kernels had
// it in 2015). The last columns are windows of 8 KiB below so many holes of 4 KiB (-bench Fragmented):
//
//	goroutines      1      2     64      100 holes  10000 holes
//	Cache         7.1    7.7    7.5            9.1          8.8
//	Ring          6.9    6.7    7.0
//	Space          27     26     27
//	AllocWait                                  830          600
//	list           44     41     41            120        11600
package iova

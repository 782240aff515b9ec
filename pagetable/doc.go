// Package pagetable writes the page tables that a VT-d unit walks: second
// stage of 39, 48 or 57 bits of IOVA, first stage of 48 or 57, leaves of 4 KiB,
// 2 MiB and 1 GiB (VT-d specification §3.6, §3.7, §9.7, §9.8).
//
// # Ownership
//
// A Table owns its frames, from the pool it was given and in the Memory that
// it was given, until an Unmap moves them into a Batch or Close gives them
// back. It owns neither the pool nor the memory, and knows no unit: the caller
// puts Root into a context or PASID entry, invalidates the unit's caches after
// Unmap, and only then calls Batch.Release. IOVAs are the caller's too; the
// unit never translates the interrupt range 0xFEE00000-0xFEEFFFFF, whatever
// the table says.
//
// A frame in a pool is zero for the CPU. For a unit that does not snoop it
// need not be: Table flushes all of a new table, and other users of such
// frames have to do the same.
//
// # What may block
//
// FrameSource blocks: it is what stands behind a pool. Dump blocks as its
// writer does. Nothing else does; what is marked gommu:nosleep also allocates
// nothing but the error of a call that the caller got wrong.
//
// # Concurrency
//
// Map, MapExtents, Unmap, UnmapEach, Unmark, Protect, Harvest, Merge, Hold and Unhold may run at once
// in any number of goroutines if their ranges are disjoint, each with a batch of its own.
// They may share tables and superpages; they take no lock, and none waits
// for another. Lookup, the iterators, Stats, Dump and WriteSVG may run at any time:
// they see each leaf as it was before or after. Close runs alone, but for Lookup.
// A Batch belongs to one goroutine at a time. Memory and FrameSource are safe to use at
// once from several.
//
// Tables are put into the tree by compare-and-swap. How many entries of a table are in
// use, or about to be, is counted outside of it (see useCount); who takes the
// last one out of use unlinks the table, and who finds such a table in the way
// replaces it. Its frame can be used again only after the release of the batch.
//
// Hold keeps tables in the tree that may be empty. In held tables of 4 KiB pages Map and
// Unmap of pages write nothing but the pages' own entries: no frame is needed, no table
// leaves the tree, and no word is shared with others but those in the same cache lines of the
// table. Such an Unmap is no memory barrier: who reads afterwards what another
// processor writes, such as how many flushes have begun, needs one in between (any
// atomic operation that writes).
//
// # Errors
//
// Every error is an *OpError, except that FrameSource.Alloc returns its
// context's error as it is. A call that failed has changed nothing, but for
// Close and Batch.Release, which give back every frame that the pool takes.
package pagetable

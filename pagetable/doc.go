// Package pagetable writes the page tables that a VT-d unit walks: second
// stage, 39 or 48 bits of IOVA, leaves of 4 KiB, 2 MiB and 1 GiB (VT-d
// specification §3.7, §9.8).
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
// One goroutine at a time may call the methods of a Table, and of a Batch.
// Lookup, Root, AddressWidth and Levels may be called at any time by any
// goroutine. Memory and FrameSource are safe to use at once from several.
//
// # Errors
//
// Every error is an *OpError, except that FrameSource.Alloc returns its
// context's error as it is. A call that failed has changed nothing, but for
// Close and Batch.Release, which give back every frame that the pool takes.
package pagetable

// Package model is a strict VT-d remapping unit in this process: registers,
// walks of the tables in a piece of memory, caches, faults, and devices that
// issue DMA through it. It is what the driver and the tables of this module are
// judged by, so it imports the standard library only and was written from the
// specification, not from them.
//
// # Strict
//
// The unit caches everything that the specification lets hardware cache, for as
// long as it lets it (chapter 6), and drops nothing that it was not asked to
// drop: no capacity, no chance, no width beyond the request. So software that
// misses an invalidation, a flush of a cache line or of the write buffer, or
// makes an invalidation a page too small, sees stale entries here every time.
// Invalidations from the queue happen only when a wait descriptor is reached,
// because only that tells software that they are done (section 6.5.2.9).
//
// What software must not do, but what no fault reports, is noted in words:
// Unit.Violations.
//
// # Where the specification leaves a choice
//
// All caches are tagged as table 17 of section 6.2.1 says: an IOTLB entry is found
// by requester and IOVA whatever has become of the context entry, and dropped by the
// domain id that it was made with; paging-structure entries are found by domain
// id, so tables that share one by mistake are mixed up. A superpage is one entry.
// Pass-through is cached like a mapping. What faulted is cached only in caching mode,
// of a first stage never. Faults of one requester are collapsed only with
// Config.CollapseFaults. The queue runs inside the register write that moves its
// tail. What is illegal in the interrupt range is blocked without a fault record,
// there being no interrupt remapping. When a device TLB does not answer, nothing
// that was queued behind its invalidation is done.
//
// # Ownership, blocking, concurrency
//
// The memory belongs to the caller; the unit reads and writes it, with
// sync/atomic, for as long as it is used. Nothing needs closing. All methods of
// Unit and Device are safe to call at once from several goroutines, also while
// the tables change. They wait for each other, never for anything else;
// invalidations wait for the DMA that is under way. DMA through cached entries
// allocates nothing.
//
// Not modelled: interrupt remapping (its commands and descriptors are accepted),
// nested translation, page requests, execute and privileged requests, advanced
// fault logging, performance monitoring.
//
// Sections are those of the "Intel Virtualization Technology for Directed I/O
// Architecture Specification", revision 5.10.
package model

// Package iommu is what a driver programs against: domains, the memory registered
// in them, and mappings of it, which are made where nobody may sleep.
//
// A [Domain] is one I/O address space. [New] makes one over tables that this process writes and units (vtd) walk;
// [NewPremapped] one over tables of a kernel. Both have the same methods, and differ in what a device
// can reach:
//
//   - own tables, [Strict]: what is mapped, and nothing that Unmap has returned for;
//   - own tables, [Batched]: also what was unmapped and is not flushed. A flush is begun when Flush.Count
//     mappings or Flush.Bytes were unmapped on a processor, or by a worker within Flush.Deadline. If the unit is
//     slow, Unmap waits for it when twice as much has come in, so up to three times these bounds
//     wait on a processor at a time, and one more for each goroutine inside Unmap. It does not wait for another goroutine that is
//     giving the unit commands: while one is descheduled there, more comes in, at most Options.MaxMappings;
//   - a [Ring]: also what was unmapped in it since its last Flush, at most RingOptions.Burst mappings;
//   - premapped: all that is registered.
//
// Devices reach whole pages of 4096 bytes: a mapping shows what else is in its first and last page.
// What FromDevice lets a device write it may also read where tables are first-stage ones.
//
// # Ownership
//
// A domain owns its table, its IOVAs and its worker, until Close. It does not own the Memory, the pool of frames, or
// the units, which all stay until then. Registered memory stays mapped in this process until its region is
// closed. A [Mapping] is a value; it is unmapped once, by the domain or ring that made it. Nothing is used again before the
// units have confirmed that they forgot it: IOVAs, frames of tables, and memory that is unpinned.
//
// # What may block
//
// Map, MapBatch, MapSG, Unmap, UnmapBatch, SyncForCPU and SyncForDevice of a Domain, Map, MapSG, Unmap and Flush of a Ring, and Map of a
// Region never sleep: they park no goroutine, make no system call and allocate nothing but the error of a call
// that was wrong. (What a unit's registers do is up to them: behind a socket a flush is a system call.) They answer
// ErrEmpty at once where a pool is dry. Strict unmaps and Ring.Flush spin until the unit has
// answered, and give up with ErrFlush after some 50 milliseconds. Everything else may sleep.
//
// # Concurrency
//
// All methods of a Domain and of a Region may be called at once from several goroutines; those of a Ring by one at a
// time. Goroutines on different processors share no cache line that they write, as long as each unmaps
// about as much as it maps.
//
// # Failing units
//
// When a unit fails, unmaps say ErrFlush: the mapping is gone, its window stays out of use, and devices may reach it
// until the unit has recovered. A worker tries that and tells Options.OnError; Domain.Flush tries it, too.
//
// # Tracing
//
// Package iommu/trace, and `gommu trace`, show from outside what the domains of a running process map, unmap and flush, and how
// long it takes. While nobody looks that costs a load and a branch a call.
package iommu

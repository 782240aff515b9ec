// Package trace shows what programs that use this library do, and what the kernel does for them, by programs in the kernel
// (eBPF): how often memory is mapped and unmapped, how much, for which device, and how long it takes.
//
// A [Tracer] watches one running process, or all processes of one program's file, those that start later too, and
// the kernel. Nothing has to be told to the programs, and they need no symbols; see package internal/probe for what
// is read from them. The counts are kept in the kernel, one set a processor; [Tracer.Snapshot] adds them up. Only
// faults, and calls that took longer than Options.SlowerThan, are passed on one by one: [Tracer.Read].
//
// What could not be counted or passed on is counted as lost, so that what a snapshot has and what it lost
// add up to what happened.
//
// # What is seen
//
// Of programs: [Map], [Unmap], [Flush], [PoolEmpty], one in Options.Sample of them, and all of [PoolGrow], [PoolShrink] and
// [Fault]. Of the kernel, with Options.Kernel: its functions iommu_map, iommu_unmap and iommu_unmap_fast, the ioctls of
// VFIO's type 1 containers, the faults that Intel's driver takes, and the events of iommu and intel_iommu. What
// of these a kernel does not have or does not let be watched is in Snapshot.Missing, with what it would take.
//
// The device of a kernel's call is that of its domain, if that is one of Intel's driver and has one device only; otherwise, and for events,
// the source is [Several]. Faults of the kernel's belong to no process, so they are seen whatever Options.PID is.
//
// # Who owns what
//
// All that a tracer has in the kernel hangs on its file descriptors. It goes with Close, or with the process,
// also if that is killed; nothing is pinned.
//
// # What it costs
//
// A call that nobody traces pays for one load and one branch. A traced call pays for a trap into the kernel, about a
// microsecond; Options.Sample lets most calls go without it. docs/MEASURED.md has figures.
//
// # Concurrency
//
// All methods may be called at once from several goroutines. Open, Snapshot and Close make system calls;
// Read waits for an event, or for Close.
//
// It needs Linux 6.6 on amd64 or arm64, and root or CAP_BPF, CAP_PERFMON and CAP_SYS_ADMIN. Options.Kernel needs CONFIG_DEBUG_INFO_BTF,
// and for functions fentry (CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS). On other systems Open fails.
package trace

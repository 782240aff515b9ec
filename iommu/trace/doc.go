// Package trace shows what other programs that use this library do, and what the
// kernel does for them, by programs in the kernel (eBPF): how often memory is
// mapped and unmapped, how much, for which device, and how long it takes.
//
// A [Tracer] watches one running process, all processes of one program's file, those that start later too, or
// only the kernel. Nothing has to be told to the programs, and they need no symbols; see package internal/probe for what
// is read from them. The counts are kept in the kernel, one set a processor; [Tracer.Snapshot] adds them up. Only
// faults, and calls that took longer than Options.SlowerThan, are passed on one by one: [Tracer.Read].
//
// What could not be counted or passed on is counted as lost, so that what a snapshot has and what it lost
// add up to what happened.
//
// # Who owns what
//
// All that a tracer has in the kernel hangs on its file descriptors. It goes with Close, or with the process,
// also if that is killed; nothing is pinned.
//
// # What it costs
//
// A call that nobody traces pays for one load and one branch. A traced call pays for a trap into the kernel, some
// microseconds; Options.Sample lets most calls go without it.
//
// # Concurrency
//
// All methods may be called at once from several goroutines. Open, Snapshot and Close make system calls;
// Read waits for an event, or for Close.
//
// It needs Linux 6.6 on amd64 or arm64, and root or CAP_BPF, CAP_PERFMON and CAP_SYS_ADMIN. On other systems
// Open fails.
package trace

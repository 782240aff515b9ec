// Package qtest runs QEMU's VT-d unit and PCI devices without a guest.
//
// A Machine is one QEMU process (q35, one intel-iommu, the devices asked for)
// whose processor halts in its first instruction. The test program does what
// firmware and drivers would do: it reads and writes registers and PCI
// configuration space over QEMU's qtest socket, and it reads and writes the
// machine's RAM directly, because that RAM is memory of this process shared
// with QEMU. So page tables are written with plain (or atomic) stores and the
// emulated hardware walks exactly those bytes. It needs Linux and no privileges.
//
// Time: the machine's clock jumps to the next timer whenever its processor is
// idle, which is always, so a device that waits 100 ms in a guest answers at
// once. Starting takes 50 to 100 ms, a register access 20 to 40 µs.
//
// Ownership: Start makes a process, a socket and a mapping, and Close ends all
// of them; the process is also killed when this one dies. RAM, windows and
// functions belong to the Machine. After QEMU has died or after Close, register
// and configuration reads give all ones, as on a bus with nothing on it, and Err
// says why; RAM may be touched until Close and not after it.
//
// Start, Close and every access may block, each access at most Config.Timeout.
// All methods are safe to call from several goroutines at once.
//
// QEMU is given by path; packages above this one know where to get it.
package qtest

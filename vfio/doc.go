// Package vfio gives a process a device and its DMA: it opens VFIO containers, groups and devices of
// Linux, maps memory for them, and reaches their registers and interrupts. It uses the
// type 1 v2 interface of include/uapi/linux/vfio.h.
//
// [Open] does everything for one function:
//
//	dev, err := vfio.Open(addr, vfio.Options{}) // addr is bound to vfio-pci (pci.Bind)
//	err = dev.Container().MapDMA(iova, mem, vfio.DMARead|vfio.DMAWrite)
//	bar, err := dev.BAR(0)
//	err = dev.Close()
//
// Below it lie [OpenContainer], [OpenGroup], [Container.Attach], [Group.Device] and
// [Container.MapDMA], to be called in this order; another order is an error of its own.
// A [Device] is a pci.Function, so that drivers written for package pci run on it.
//
// # Ownership
//
// A container owns the groups attached to it, a group its devices, a device its BARs and interrupts; closing
// an owner closes what it owns first. Closing twice is harmless. A device is stopped before
// anything that its DMA can reach goes away: bus mastering off, interrupts off, reset if it can be.
//
// Memory given to [Container.MapDMA] belongs to the caller. The kernel pins its pages, which keeps the pages
// but not the process's view of them: it must be memory that the Go runtime neither frees nor moves, such as
// unix.Mmap gives, and it must stay mapped until UnmapDMA. Never pass memory of the Go heap or of a stack.
//
// # What may block
//
// Everything but the accesses of an open BAR makes system calls. MapDMA pins pages, for milliseconds to seconds:
// half a second a gigabyte of fresh 4 KiB pages. UnmapDMA flushes the IOMMU. Reset may take a second.
// [Interrupt.Wait] parks the goroutine, not a thread.
//
// # Concurrency
//
// All methods are safe to call at once from several goroutines. Close must come after the last access of a BAR.
//
// # Privileges
//
// A process that is not root needs read and write access to /dev/vfio/GROUP, and a locked-memory limit
// (RLIMIT_MEMLOCK) of all memory that it maps.
package vfio

// Package devmem gives a process of a stock Linux kernel what it needs to own a
// VT-d unit: the unit's registers through /dev/mem, as a vtd.Registers, and
// memory whose bus addresses are known, for tables (pagetable.NewMemory) and for
// DMA.
//
// The kernel must leave the unit alone, and must let root map registers. Boot it
// with
//
//	intel_iommu=off intremap=off iomem=relaxed hugepages=N
//
// A unit that the kernel drives is refused. Devices are reached through package
// pci's sysfs functions: with the kernel's IOMMU driver off there are no groups
// and no VFIO to stand between.
//
// # Ownership
//
// Registers own their mapping, Memory owns its hugepages. Both know nothing of
// the unit's state: switch it off (vtd.Unit.Close) before Memory is closed, or the
// unit walks, and devices write, what the kernel has given to somebody else. The
// same holds when the process dies: a unit that is left on keeps its last tables.
//
// Bus addresses are physical addresses as /proc/self/pagemap tells them. The kernel
// neither swaps hugepages nor moves them on its own; memory that is taken offline and
// users of contiguous memory can make it. Memory.Check finds that out afterwards.
//
// # What may block, and concurrency
//
// Open, NewMemory, Check and Close sleep. Registers' accesses are single loads and stores,
// safe to make at once from several goroutines; Close comes after the last. Memory's
// methods are safe to call at once.
package devmem

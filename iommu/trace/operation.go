package trace

import (
	"fmt"

	"gommu/internal/probe"
)

// An Operation is a kind of call.
type Operation uint16

// The operations: the library's own, then the kernel's.
const (
	Map Operation = iota + 1
	Unmap
	Flush
	PoolGrow
	PoolShrink
	PoolEmpty
	Fault

	KernelMap        // the function iommu_map
	KernelUnmap      // the function iommu_unmap
	KernelUnmapFast  // the function iommu_unmap_fast
	VFIOMap          // the call VFIO_IOMMU_MAP_DMA of a type 1 container
	VFIOUnmap        // the call VFIO_IOMMU_UNMAP_DMA
	EventMap         // the event iommu:map
	EventUnmap       // the event iommu:unmap
	EventFault       // the event iommu:io_page_fault
	EventSubmit      // the event intel_iommu:qi_submit
	EventFlushAll    // the event intel_iommu:cache_tag_flush_all
	EventFlushRange  // the event intel_iommu:cache_tag_flush_range
	EventFlushAbsent // the event intel_iommu:cache_tag_flush_range_np

	operations
)

var operationNames = [operations]string{
	Map: "map", Unmap: "unmap", Flush: "flush", PoolGrow: "pool-grow", PoolShrink: "pool-shrink", PoolEmpty: "pool-empty", Fault: "fault",
	KernelMap: "iommu_map", KernelUnmap: "iommu_unmap", KernelUnmapFast: "iommu_unmap_fast",
	VFIOMap: "vfio-map", VFIOUnmap: "vfio-unmap",
	EventMap: "iommu:map", EventUnmap: "iommu:unmap", EventFault: "iommu:io_page_fault",
	EventSubmit: "intel_iommu:qi_submit", EventFlushAll: "intel_iommu:cache_tag_flush_all",
	EventFlushRange: "intel_iommu:cache_tag_flush_range", EventFlushAbsent: "intel_iommu:cache_tag_flush_range_np",
}

// String is the operation's name, for the kernel's that of the function or event.
func (o Operation) String() string {
	if o < operations && operationNames[o] != "" {
		return operationNames[o]
	}
	return fmt.Sprintf("operation %d", uint16(o))
}

// MarshalText is String.
func (o Operation) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// Timed says whether calls of the operation have a duration. The kernel's events have none.
func (o Operation) Timed() bool { return o != PoolEmpty && o != Fault && o < EventMap }

// InBytes says whether the sizes of the operation are bytes. Those of pools are elements, and some have none.
func (o Operation) InBytes() bool {
	switch o {
	case PoolGrow, PoolShrink, PoolEmpty, Fault, EventFault, EventSubmit, EventFlushAll:
		return false
	}
	return true
}

// A Source is who an operation was for: a device's requester id (bus, device, function), or, for operations of pools,
// a pool's number in its process.
type Source uint64

// Several is the source of what belongs to no single device, or to one that cannot be told.
const Several Source = probe.Several

// String is a requester id the way lspci prints it, without a domain.
func (s Source) String() string {
	switch {
	case s == Several:
		return "-"
	case s > 0xffff:
		return fmt.Sprintf("%#x", uint64(s))
	}
	return fmt.Sprintf("%02x:%02x.%x", uint64(s)>>8, uint64(s)>>3&31, uint64(s)&7)
}

// MarshalText is String.
func (s Source) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

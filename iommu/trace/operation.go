package trace

import (
	"fmt"

	"gommu/internal/probe"
	"gommu/pci"
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
	KernelFault      // a fault that Intel's driver takes from a unit's records, in the function dmar_fault
	EventMap         // the event iommu:map
	EventUnmap       // the event iommu:unmap
	EventFault       // the event iommu:io_page_fault
	EventSubmit      // the event intel_iommu:qi_submit
	EventFlushAll    // the event intel_iommu:cache_tag_flush_all
	EventFlushRange  // the event intel_iommu:cache_tag_flush_range
	EventFlushAbsent // the event intel_iommu:cache_tag_flush_range_np

	operations
)

// A kind is what is known of an operation.
type kind struct {
	name  string
	timed bool   // its calls have a duration
	bytes bool   // and a size
	items string // what else they are for, in the plural
}

var kinds = [operations]kind{
	Map:        {name: "map", timed: true, bytes: true},
	Unmap:      {name: "unmap", timed: true, bytes: true},
	Flush:      {name: "flush", timed: true, bytes: true, items: "mappings"},
	PoolGrow:   {name: "pool-grow", timed: true, items: "elements"},
	PoolShrink: {name: "pool-shrink", timed: true, items: "elements"},
	PoolEmpty:  {name: "pool-empty", items: "elements"},
	Fault:      {name: "fault"},

	KernelMap:        {name: "iommu_map", timed: true, bytes: true},
	KernelUnmap:      {name: "iommu_unmap", timed: true, bytes: true},
	KernelUnmapFast:  {name: "iommu_unmap_fast", timed: true, bytes: true},
	VFIOMap:          {name: "vfio-map", timed: true, bytes: true},
	VFIOUnmap:        {name: "vfio-unmap", timed: true, bytes: true},
	KernelFault:      {name: "dmar_fault"},
	EventMap:         {name: "iommu:map", bytes: true},
	EventUnmap:       {name: "iommu:unmap", bytes: true},
	EventFault:       {name: "iommu:io_page_fault"},
	EventSubmit:      {name: "intel_iommu:qi_submit"},
	EventFlushAll:    {name: "intel_iommu:cache_tag_flush_all"},
	EventFlushRange:  {name: "intel_iommu:cache_tag_flush_range", bytes: true},
	EventFlushAbsent: {name: "intel_iommu:cache_tag_flush_range_np", bytes: true},
}

func (o Operation) kind() kind {
	if o < operations {
		return kinds[o]
	}
	return kind{}
}

// String is the operation's name, for the kernel's that of the function or event.
func (o Operation) String() string {
	if name := o.kind().name; name != "" {
		return name
	}
	return fmt.Sprintf("operation %d", uint16(o))
}

// MarshalText is String.
func (o Operation) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// Timed says whether calls of the operation have a duration. The kernel's events have none.
func (o Operation) Timed() bool { return o.kind().timed }

// InBytes says whether calls of the operation have a size.
func (o Operation) InBytes() bool { return o.kind().bytes }

// Items is what the Items of its tallies are: "mappings" of a flush, "elements" of a pool, or "".
func (o Operation) Items() string { return o.kind().items }

// Kernel says whether it is the kernel that does it.
func (o Operation) Kernel() bool { return o >= KernelMap }

// OfPool says whether it is for a pool, not for a device.
func (o Operation) OfPool() bool { return o >= PoolGrow && o <= PoolEmpty }

// A Source is which device an operation was for: its requester id (bus, device, function), and above these 16 bits the PCI segment, where
// the kernel knows it.
type Source uint64

// Several is the source of what belongs to no single device, or to one that cannot be told.
const Several Source = probe.Several

// String is a requester id the way lspci prints it: with the segment if that is not 0.
func (s Source) String() string {
	switch {
	case s == Several:
		return "-"
	case s > 0xffff:
		return fmt.Sprintf("%04x:%v", uint64(s)>>16, s&0xffff)
	}
	return fmt.Sprintf("%02x:%02x.%x", uint64(s)>>8, uint64(s)>>3&31, uint64(s)&7)
}

// MarshalText is String.
func (s Source) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// SourceOf is the source of a function.
func SourceOf(a pci.Address) Source { return Source(a.Domain)<<16 | Source(a.RequesterID()) }

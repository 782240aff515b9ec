package iommu

import "gommu/pagetable"

// A Mapper maps memory by calls that may sleep, into tables that are not this
// process's: a VFIO container, or an I/O address space of iommufd. What UnmapDMA
// returns for, no device reaches any more.
type Mapper interface {
	// MapDMA pins mem and lets devices reach it at iova. Both are multiples of the
	// page size. Errors of the kernel keep their errno.
	MapDMA(iova uint64, mem []byte, prot pagetable.Prot) error
	// UnmapDMA undoes a MapDMA, of exactly this range.
	UnmapDMA(iova, size uint64) error
	// Limits says what can be mapped.
	Limits() (MapperLimits, error)
}

// MapperLimits are what a Mapper can map.
type MapperLimits struct {
	Ranges  []IOVARange // usable IOVAs; what is not in them is reserved
	Entries int         // how many mappings there may be at a time; 0 if it is not known
	Page    uint64      // smallest page in bytes
	Sources []uint16    // requester ids of the devices that reach what is mapped, as far as they are known; for tracers
}

// An IOVARange is a run of IOVAs, both ends included.
type IOVARange struct{ Start, Last uint64 }

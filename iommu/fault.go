package iommu

// A Fault is a DMA that a unit blocked.
type Fault struct {
	Source   uint16 // requester id
	IOVA     uint64 // of the 4 KiB page
	Write    bool
	HasPASID bool
	PASID    uint32
	Reason   uint8  // the unit's code
	Text     string // what it means
	Lost     bool   // faults after this one were lost
}

package iommu

// A Device is what DMA comes from.
type Device struct {
	// Source is its requester id: bus, device, function in 16 bits.
	Source uint16
	// Mask is the highest IOVA that it can drive; 0 means all 64 bits. A domain
	// that hands out higher ones refuses the device: see Options.Mask.
	Mask uint64
	// Unit translates for it. It is nil in a premapped domain, where the kernel
	// attaches devices.
	Unit Unit
}

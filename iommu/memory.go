package iommu

import (
	"context"

	"gommu/pagetable"
)

// Memory is where memory for DMA comes from, and who pins it and knows where it
// lies on the bus. All methods may sleep, and may be called at once.
type Memory interface {
	// Alloc returns zeroed memory of size bytes, a multiple of 4096, aligned to 2 MiB in
	// this process if size is at least that, that can be registered.
	Alloc(ctx context.Context, size int) ([]byte, error)
	// Free takes back exactly what Alloc returned.
	Free(mem []byte) error
	// Pin keeps mem where it is and tells where that is on the bus, in order.
	// mem is whole pages. For a Mapper, which pins by itself, there need not be any extents.
	Pin(mem []byte) ([]pagetable.Extent, error)
	// Unpin undoes a Pin, of exactly this memory.
	Unpin(mem []byte) error
}

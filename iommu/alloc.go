package iommu

import (
	"context"
	"errors"
	"fmt"

	"gommu/internal/probe"
)

// A Place says where a mapping or a buffer is to be. The zero value is anywhere.
type Place struct {
	Align    uint64 // of the IOVA, a power of two; 0 is 4096
	Boundary uint64 // that it must not cross, a power of two; 0 is none
	Mask     uint64 // highest IOVA; 0 is the domain's
	IOVA     uint64 // exactly there, if Fixed
	Fixed    bool
}

// A Buffer is memory that the processor and devices share for long: rings of descriptors, tables that a device reads. Copies are the
// same buffer, which is freed once.
type Buffer struct {
	Mem []byte
	Mapping
	region *Region
}

// Alloc allocates, registers and maps size bytes of zeroed memory, rounded up to whole pages of 4096 bytes, at a place. Any slice of
// Mem can be mapped again by Map, as registered memory. A large buffer starts on 2 MiB in this process.
//
// It may sleep. It is all or nothing. Errors: ErrZeroSize, ErrDirection, ErrRange (a place that contradicts itself),
// ErrOverlap (a fixed place that is taken), ErrMask, ErrBudget, ErrClosed, those of the Memory and of the Mapper.
func (d *Domain) Alloc(ctx context.Context, size int, dir Direction, p Place) (*Buffer, error) {
	fail := func(err error) (*Buffer, error) {
		return nil, d.wrap(opAlloc, p.IOVA, uint64(max(size, 0)), err)
	}
	if size <= 0 {
		return fail(ErrZeroSize)
	}
	if size > maxAlloc {
		return fail(fmt.Errorf("%w: buffers have at most 1 TiB", ErrRange))
	}
	if err := d.checkPlace(p, uint64(size)); err != nil {
		return fail(err)
	}
	r, err := d.allocRegion(ctx, (size+pageMask)&^pageMask, dir, forAll, p)
	if err != nil {
		return fail(err)
	}
	begin := probe.Begin(probe.Map)
	m, err := d.mapAt(ctx, r, 0, uint64(size), dir, p)
	if begin != 0 {
		d.subject.tellMap(begin, m, uint64(size), dir, err)
	}
	if err != nil {
		return fail(errors.Join(err, d.drop(r)))
	}
	return &Buffer{Mem: r.mem[:size:size], Mapping: m, region: r}, nil
}

const maxAlloc = 1 << 40

// Free undoes Alloc. It may sleep. A buffer that is freed already is ErrNotMapped, one of which Map has mapped slices that are live
// is ErrMapped: unmap them and free it again.
func (d *Domain) Free(b *Buffer) error {
	if b == nil || b.region == nil || b.region.d != d {
		return d.wrap(opFree, 0, 0, fmt.Errorf("%w: the domain did not allocate the buffer", ErrNotMapped))
	}
	// After ErrFlush it is unmapped; the region's Close waits for the unit.
	if err := d.Unmap(b.Mapping); err != nil && !errors.Is(err, ErrFlush) && !b.region.freeing.Load() {
		return err
	}
	b.region.freeing.Store(true)
	if b.region.isClosed() {
		return d.wrap(opFree, b.iova, b.size, ErrNotMapped)
	}
	return b.region.Close()
}

const opFree = "free"

// allocRegion makes a region of new memory.
func (d *Domain) allocRegion(ctx context.Context, size int, dir Direction, what purpose, p Place) (*Region, error) {
	mem, err := d.mem.Alloc(ctx, size)
	if err != nil {
		return nil, err
	}
	return d.openRegion(ctx, mem, true, dir, what, p)
}

// checkPlace says what is wrong with a place for size bytes.
func (d *Domain) checkPlace(p Place, size uint64) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{ErrRange}, args...)...)
	}
	span := (size + pageMask) &^ pageMask
	switch {
	case span < size:
		return bad("%#x bytes pass the end of the address space", size)
	case p.Align&(p.Align-1) != 0 || p.Boundary&(p.Boundary-1) != 0:
		return bad("Align %#x and Boundary %#x are powers of two or 0", p.Align, p.Boundary)
	case p.Boundary != 0 && p.Boundary < span:
		return bad("%#x bytes cross each Boundary of %#x", span, p.Boundary)
	case p.Mask != 0 && p.Mask < span-1:
		return fmt.Errorf("%w: %#x bytes do not fit below %#x", ErrMask, span, p.Mask)
	case !p.Fixed:
		return nil
	case p.IOVA%max(pageSize, p.Align) != 0:
		return bad("IOVA %#x is no multiple of %#x", p.IOVA, max(pageSize, p.Align))
	case p.IOVA+span-1 < p.IOVA:
		return bad("%#x bytes at IOVA %#x pass the end of the address space", span, p.IOVA)
	case p.Boundary != 0 && p.IOVA&^(p.Boundary-1) != (p.IOVA+span-1)&^(p.Boundary-1):
		return bad("%#x bytes at IOVA %#x cross a Boundary of %#x", span, p.IOVA, p.Boundary)
	case p.IOVA+span-1 > d.top || p.Mask != 0 && p.IOVA+span-1 > p.Mask:
		return fmt.Errorf("%w: IOVA %#x", ErrMask, p.IOVA+span-1)
	}
	return nil
}

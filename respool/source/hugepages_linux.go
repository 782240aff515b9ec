package source

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"reflect"
	"syscall"
)

const (
	defaultHugePage = 2 << 20
	minHugePage     = 64 << 10 // of any architecture

	// hugeShift is MAP_HUGE_SHIFT of uapi/asm-generic/hugetlb_encode.h: the logarithm of
	// the hugepage's size stands there in the flags of mmap.
	hugeShift = 26
)

// HugePagesOptions configure HugePages. A field that is zero takes its default.
type HugePagesOptions struct {
	// Size is the size of a block in bytes, a power of two from 64 up to PageSize.
	// Default PageSize.
	Size int

	// PageSize is the size of a hugepage in bytes, one of those that
	// /sys/kernel/mm/hugepages lists: 2 MiB or 1 GiB on amd64. Default 2 MiB.
	PageSize int

	// Limit bounds the bytes mapped at a time. Default none but how many hugepages there
	// are, and the pool's Max.
	Limit int

	// Fallback asks for ordinary memory where there is no hugepage. It is aligned to PageSize and
	// the kernel is advised to use transparent hugepages for it (MADV_HUGEPAGE), of 2 MiB at most, where it
	// can. Whether it could, nothing says; Stats counts these bytes.
	Fallback bool
}

// HugePages is a source of blocks carved from hugepages (MAP_HUGETLB). NewHugePages makes
// one. Each hugepage is a chunk: it goes back to the kernel when its blocks are back.
type HugePages struct {
	arena
	fallback bool
}

// NewHugePages returns a source that has nothing mapped yet: whether there are hugepages
// the first Alloc tells. It refuses with ErrBadOptions sizes that are no powers of two or out of
// range, and a limit below one hugepage.
func NewHugePages(o HugePagesOptions) (*HugePages, error) { return newHugePages(o, kernel) }

func newHugePages(o HugePagesOptions, sys system) (*HugePages, error) {
	if o.PageSize == 0 {
		o.PageSize = defaultHugePage
	}
	if o.Size == 0 {
		o.Size = o.PageSize
	}
	why := ""
	switch {
	case !powerOfTwo(o.PageSize) || o.PageSize < minHugePage || o.PageSize > maxChunk:
		why = fmt.Sprintf("PageSize (%d) is no power of two from %d to %d: use one of /sys/kernel/mm/hugepages", o.PageSize, minHugePage, maxChunk)
	case o.Fallback && o.PageSize > math.MaxInt/2: // mapAdvised maps twice as much
		why = fmt.Sprintf("Fallback for a PageSize of %d needs more address space than there is: leave Fallback false or use a smaller PageSize", o.PageSize)
	case !powerOfTwo(o.Size) || o.Size < minBlock || o.Size > o.PageSize:
		why = fmt.Sprintf("Size is no power of two from %d to PageSize (%d)", minBlock, o.PageSize)
	case o.Limit < 0 || o.Limit != 0 && o.Limit < o.PageSize:
		why = fmt.Sprintf("Limit (%d) is below one hugepage (%d): raise it, or leave it zero for none", o.Limit, o.PageSize)
	}
	if why != "" {
		return nil, &OpError{Op: "new", Source: "hugepages", Size: o.Size, Err: fmt.Errorf("%w: %s", ErrBadOptions, why)}
	}
	h := &HugePages{
		arena:    arena{name: "hugepages", size: o.Size, stride: o.Size, unit: o.PageSize, chunk: o.PageSize, limit: o.Limit, sys: sys},
		fallback: o.Fallback,
	}
	h.grow = h.mapHuge
	h.init()
	return h, nil
}

func powerOfTwo(n int) bool { return n > 0 && n&(n-1) == 0 }

// mapHuge maps one hugepage of n bytes, or what Fallback allows instead.
func (h *HugePages) mapHuge(n int) (*chunk, error) {
	c, err := h.mapReserved(n)
	if err == nil || !h.fallback {
		return c, err
	}
	c, plain := h.mapAdvised(n)
	if plain != nil {
		return nil, fmt.Errorf("%w; nor ordinary memory instead: %w", err, plain)
	}
	return c, nil
}

// mapReserved maps one of the hugepages that the administrator has reserved.
func (h *HugePages) mapReserved(n int) (*chunk, error) {
	raw, err := h.sys.mmap(n, anonymous|mapHugeTLB|(bits.Len(uint(n))-1)<<hugeShift)
	if err != nil {
		return nil, noHugePages(n, err)
	}
	c := &chunk{raw: raw, mem: raw}
	if err := h.populate(c); err != nil {
		return nil, fmt.Errorf("%w: %w: the hugetlb cgroup or the memory policy may forbid it", ErrNoHugePages, err)
	}
	return c, nil
}

// mapAdvised maps ordinary memory, twice as much address space as it uses, to be aligned.
func (h *HugePages) mapAdvised(n int) (*chunk, error) {
	raw, err := h.sys.mmap(2*n, anonymous)
	if err != nil {
		return nil, noMemory("mmap", 2*n, err)
	}
	skip := -int(reflect.ValueOf(raw).Pointer()) & (n - 1)
	c := &chunk{raw: raw, mem: raw[skip : skip+n : skip+n], ordinary: true}
	_ = h.sys.madvise(c.mem, syscall.MADV_HUGEPAGE) // advice: a kernel without transparent hugepages refuses it
	if err := h.populate(c); err != nil {
		return nil, err
	}
	return c, nil
}

func noHugePages(n int, err error) error {
	if errors.Is(err, syscall.EINVAL) {
		return fmt.Errorf("%w: %w of %d kB: mmap: %w: the processor or the kernel has no such size; /sys/kernel/mm/hugepages lists what there is", ErrNoMemory, ErrNoHugePages, n>>10, err)
	}
	remedy := fmt.Sprintf("reserve more, as root: echo N > /sys/kernel/mm/hugepages/hugepages-%dkB/nr_hugepages", n>>10)
	if n > defaultHugePage {
		remedy += fmt.Sprintf(", or at boot, before memory is in pieces: hugepagesz=%dM hugepages=N", n>>20)
	}
	return fmt.Errorf("%w: %w of %d kB is free: mmap: %w: %s", ErrNoMemory, ErrNoHugePages, n>>10, err, remedy)
}

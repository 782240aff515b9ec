package iommu

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"gommu/pagetable"
)

// Pages is a Memory of anonymous memory of this process, which what is behind a Mapper pins: it knows no bus addresses.
// What is a multiple of 2 MiB lies in hugepages as long as the kernel has some to give, and otherwise in
// ordinary memory that the kernel is asked to make hugepages of. The zero value works.
type Pages struct {
	// Ordinary says not to take hugepages that the administrator reserved.
	Ordinary bool

	mu    sync.Mutex
	out   map[uintptr]block
	stats PagesStats
}

// PagesStats are what a Pages has given out.
type PagesStats struct {
	Out  int // bytes
	Huge int // of these, bytes in reserved hugepages
}

// A block is what Alloc returned.
type block struct {
	raw  []byte // as it was mapped
	size int
	huge bool
}

// Alloc maps memory. Errors keep the kernel's errno.
func (p *Pages) Alloc(ctx context.Context, size int) ([]byte, error) {
	fail := func(err error) ([]byte, error) {
		return nil, &OpError{Op: "allocate", Size: uint64(size), Err: err}
	}
	if err := ctx.Err(); err != nil {
		return fail(err)
	}
	if size <= 0 || size%pageSize != 0 || size > 1<<40 {
		return fail(fmt.Errorf("%w: sizes are multiples of %d up to 1 TiB", ErrRange, pageSize))
	}
	b := block{size: size}
	if !p.Ordinary && size%slabSize == 0 {
		// 21 is the logarithm of 2 MiB, which the kernel takes in bits 26 to 31. Those it has not are refused here, not on first use.
		raw, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_HUGETLB|21<<26)
		if err == nil {
			b.raw, b.huge = raw, true
		}
	}
	mem := b.raw
	if mem == nil {
		var err error
		if b.raw, mem, err = ordinary(size); err != nil {
			return fail(fmt.Errorf("%w: mmap: %w", ErrMemory, err))
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.out == nil {
		p.out = map[uintptr]block{}
	}
	p.out[addressOf(mem)] = b
	p.count(b, size)
	return mem, nil
}

func (p *Pages) count(b block, n int) {
	p.stats.Out += n
	if b.huge {
		p.stats.Huge += n
	}
}

// ordinary maps memory that the kernel may make hugepages of. For the alignment more address space is mapped than is
// used; what nobody touches takes no memory.
func ordinary(size int) (raw, mem []byte, err error) {
	room, skip := size, 0
	if size >= slabSize {
		room += slabSize
	}
	raw, err = unix.Mmap(-1, 0, room, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, nil, err
	}
	if size >= slabSize {
		skip = int(-addressOf(raw) & (slabSize - 1))
	}
	mem = raw[skip : skip+size : skip+size]
	if size >= slabSize {
		// Advice: a kernel without transparent hugepages refuses it, and nothing is lost.
		_ = unix.Madvise(mem, unix.MADV_HUGEPAGE)
	}
	return raw, mem, nil
}

// Free unmaps what Alloc returned. Anything else is ErrMemory.
func (p *Pages) Free(mem []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := addressOf(mem)
	b, ok := p.out[at]
	err := error(nil)
	if !ok || b.size != len(mem) {
		err = fmt.Errorf("%w: it is not what Alloc returned, or was freed already", ErrMemory)
	} else {
		err = unix.Munmap(b.raw)
	}
	if err != nil {
		return &OpError{Op: "free", Size: uint64(len(mem)), Err: err}
	}
	delete(p.out, at)
	p.count(b, -b.size)
	return nil
}

// Stats are what is out now.
func (p *Pages) Stats() PagesStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stats
}

// Pin checks that mem is whole pages; the Mapper pins them.
func (p *Pages) Pin(mem []byte) ([]pagetable.Extent, error) {
	if len(mem) == 0 || (addressOf(mem)|uintptr(len(mem)))%pageSize != 0 {
		return nil, &OpError{Op: "pin", Size: uint64(len(mem)), Err: fmt.Errorf("%w: it is not whole pages of %d bytes", ErrRange, pageSize)}
	}
	return nil, nil
}

// Unpin does nothing.
func (p *Pages) Unpin([]byte) error { return nil }

// Close frees all that is still out. No domain uses it any more.
func (p *Pages) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for at, b := range p.out {
		if err := unix.Munmap(b.raw); err != nil {
			errs = append(errs, &OpError{Op: "free", Size: uint64(b.size), Err: err})
			continue
		}
		delete(p.out, at)
		p.count(b, -b.size)
	}
	return errors.Join(errs...)
}

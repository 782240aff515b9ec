package vfio

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Prot says what a device may do with mapped memory.
type Prot uint32

// The rights of a mapping, from the device's side.
const (
	DMARead  Prot = 1 << 0 // the device reads memory
	DMAWrite Prot = 1 << 1 // the device writes memory
)

// MapDMA lets the container's devices reach mem at iova. It pins the pages of mem: see the package documentation for
// what memory can be used. iova, the start of mem and its length are multiples of [IOMMUInfo.PageSize].
//
// A mapping is one entry of the container's budget ([IOMMUInfo.Entries], 65535 unless the module parameter
// dma_entry_limit says otherwise), whatever its size, so map large pieces.
//
// Errors: ErrNotAttached, ErrClosed, ErrBadRange, ErrMisaligned, ErrBadProt, ErrOutsideIOVA, ErrOverlap (EEXIST),
// ErrEntryLimit (ENOSPC), ErrMemlock (ENOMEM), and others as the kernel gives them. After an error nothing is mapped.
func (c *Container) MapDMA(iova uint64, mem []byte, prot Prot) error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	size := uint64(len(mem))
	fail := func(err error, remedy string) error {
		return &OpError{Op: "map", Range: true, IOVA: iova, Size: size, Err: err, Remedy: remedy}
	}
	if err := c.checkRange(iova, size); err != nil {
		return fail(err, "")
	}
	if at := uint64(addressOf(mem)); at%c.info.PageSize() != 0 {
		return fail(fmt.Errorf("%w: the memory starts at %#x, pages have %#x bytes", ErrMisaligned, at, c.info.PageSize()), "use memory that unix.Mmap gives")
	}
	if prot == 0 || prot&^(DMARead|DMAWrite) != 0 {
		return fail(fmt.Errorf("%w: %#x", ErrBadProt, uint32(prot)), "")
	}
	if !c.info.contains(iova, iova+size-1) {
		return fail(fmt.Errorf("%w: %s", ErrOutsideIOVA, c.info.rangesText()), "")
	}
	m := dmaMap{argsz: uint32(sizeOf[dmaMap]()), flags: uint32(prot), vaddr: uint64(addressOf(mem)), iova: iova, size: size}
	if _, err := c.sys.ioctlPtr(c.fd, ioctlIOMMUMapDMA, bytesOf(&m)); err != nil {
		remedy, err := c.mapError(err, size)
		return fail(err, remedy)
	}
	return nil
}

// mapError names the cause of the kernel's errno and what to do about it.
func (c *Container) mapError(errno error, size uint64) (remedy string, err error) {
	switch {
	case errors.Is(errno, unix.EEXIST):
		return "", fmt.Errorf("%w: %w", ErrOverlap, errno)
	case errors.Is(errno, unix.ENOSPC):
		return "map larger pieces, or modprobe vfio_iommu_type1 dma_entry_limit=N", fmt.Errorf("%w: %w", ErrEntryLimit, errno)
	case errors.Is(errno, unix.ENOMEM):
		return c.noMemory(errno, size)
	case errors.Is(errno, unix.EFAULT):
		return "it must be mapped, and writable if the device is to write it", fmt.Errorf("the memory cannot be pinned: %w", errno)
	}
	return "", errno
}

// noMemory says how much memory may be locked and how much would have to be.
func (c *Container) noMemory(errno error, size uint64) (remedy string, err error) {
	raise := "raise it with ulimit -l, LimitMEMLOCK= or limits.conf"
	limit, used, lerr := c.sys.memlock()
	switch {
	case lerr != nil:
		remedy = fmt.Sprintf("%d KiB more are needed: %s (the limit could not be read: %v)", size>>10, raise, lerr)
	case limit == unix.RLIM_INFINITY:
		return "", fmt.Errorf("the kernel is out of memory: %w", errno)
	default:
		remedy = fmt.Sprintf("%d KiB are locked of a limit of %d KiB, and %d KiB more are needed: %s", used>>10, limit>>10, size>>10, raise)
	}
	return remedy, fmt.Errorf("%w: %w", ErrMemlock, errno)
}

// UnmapDMA takes size bytes from iova on away from the devices. When it returns, the IOMMU has forgotten them. The
// range may span several mappings but must not cut one.
//
// Errors: ErrNotAttached, ErrClosed, ErrBadRange, ErrMisaligned, ErrBisect (nothing was unmapped), ErrNotMapped, and
// ErrShortUnmap: part of the range was not mapped, the rest is unmapped.
func (c *Container) UnmapDMA(iova, size uint64) error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	fail := func(err error) error {
		return &OpError{Op: "unmap", Range: true, IOVA: iova, Size: size, Err: err}
	}
	if err := c.checkRange(iova, size); err != nil {
		return fail(err)
	}
	n, err := c.unmap(dmaUnmap{iova: iova, size: size})
	switch {
	case errors.Is(err, unix.EINVAL):
		return fail(fmt.Errorf("%w: %w", ErrBisect, err))
	case err != nil:
		return fail(err)
	case n == 0:
		return fail(ErrNotMapped)
	case n != size:
		return fail(fmt.Errorf("%w: %#x bytes", ErrShortUnmap, n))
	}
	return nil
}

// UnmapAll takes everything away from the devices and returns how many bytes that were. Errors: ErrNotAttached,
// ErrClosed, and ErrUnsupported before Linux 5.12.
func (c *Container) UnmapAll() (uint64, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	err := c.ready()
	if err == nil && !c.unmapAll {
		err = ErrUnsupported
	}
	var n uint64
	if err == nil {
		n, err = c.unmap(dmaUnmap{flags: dmaUnmapAll})
	}
	if err != nil {
		return 0, &OpError{Op: "unmap all", Err: err}
	}
	return n, nil
}

// unmap returns how many bytes the kernel says it unmapped.
func (c *Container) unmap(u dmaUnmap) (uint64, error) {
	u.argsz = uint32(sizeOf[dmaUnmap]())
	if _, err := c.sys.ioctlPtr(c.fd, ioctlIOMMUUnmapDMA, bytesOf(&u)); err != nil {
		return 0, err
	}
	return u.size, nil
}

// checkRange refuses what the kernel would answer with EINVAL, and says why.
func (c *Container) checkRange(iova, size uint64) error {
	if err := c.ready(); err != nil {
		return err
	}
	page := c.info.PageSize()
	switch {
	case size == 0:
		return fmt.Errorf("%w: it is empty", ErrBadRange)
	case iova+size-1 < iova:
		return fmt.Errorf("%w: it passes the end of the address space", ErrBadRange)
	case iova%page != 0 || size%page != 0:
		return fmt.Errorf("%w: %#x bytes", ErrMisaligned, page)
	}
	return nil
}

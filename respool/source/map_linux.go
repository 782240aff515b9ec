package source

import (
	"errors"
	"fmt"
	"syscall"
)

// system is the part of the kernel that the sources use. Tests put their own in its place.
type system struct {
	mmap    func(length, flags int) ([]byte, error)
	munmap  func([]byte) error
	madvise func(b []byte, advice int) error
}

var kernel = system{
	mmap: func(length, flags int) ([]byte, error) {
		return syscall.Mmap(-1, 0, length, syscall.PROT_READ|syscall.PROT_WRITE, flags)
	},
	munmap:  syscall.Munmap,
	madvise: syscall.Madvise,
}

const anonymous = syscall.MAP_PRIVATE | syscall.MAP_ANON

// madvPopulateWrite is MADV_POPULATE_WRITE of uapi/asm-generic/mman-common.h, Linux 5.14.
// What a store would answer with SIGBUS it answers with EFAULT.
const madvPopulateWrite = 23

// mapOrdinary maps n bytes.
func (a *arena) mapOrdinary(n int) (*chunk, error) {
	raw, err := a.sys.mmap(n, anonymous)
	if err != nil {
		return nil, noMemory("mmap", n, err)
	}
	c := &chunk{raw: raw, mem: raw}
	if err := a.populate(c); err != nil {
		return nil, err
	}
	return c, nil
}

// populate brings in all pages of a new chunk, or unmaps it.
func (a *arena) populate(c *chunk) error {
	err := syscall.EINTR
	for err == syscall.EINTR {
		err = errnoOf(a.sys.madvise(c.mem, madvPopulateWrite))
	}
	switch err {
	case 0:
		return nil
	case syscall.EINVAL, syscall.ENOSYS: // a kernel before 5.14
		clear(c.mem)
		return nil
	}
	return errors.Join(noMemory("first touch", len(c.mem), err), a.sys.munmap(c.raw))
}

// errnoOf returns the errno in err, or 0 for nil.
func errnoOf(err error) syscall.Errno {
	var errno syscall.Errno
	if err != nil && !errors.As(err, &errno) {
		return syscall.EIO
	}
	return errno
}

func noMemory(what string, n int, err error) error {
	return fmt.Errorf("%w: %s of %d bytes: %w: raise the limit of address space (ulimit -v), of mappings (vm.max_map_count) or of the memory cgroup, or free memory", ErrNoMemory, what, n, err)
}

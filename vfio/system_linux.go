package vfio

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A system makes the system calls of this package. The tests put a strict imitation of the kernel's VFIO in its
// place, which also fails at any chosen call.
type system interface {
	open(path string) (fd int, err error)
	close(fd int) error
	// ioctl passes arg as a number, ioctlPtr as a pointer to memory that the kernel reads and writes.
	ioctl(fd int, req, arg uintptr) (int, error)
	ioctlPtr(fd int, req uintptr, arg []byte) (int, error)
	mmap(fd int, offset int64, length int) ([]byte, error)
	munmap(mem []byte) error
	pread(fd int, b []byte, offset int64) (int, error)
	pwrite(fd int, b []byte, offset int64) (int, error)
	// eventfd returns a non-blocking eventfd, which the Go poller can wait for.
	eventfd() (int, error)
	// memlock is the limit of locked memory and how much is locked, in bytes.
	memlock() (limit, used uint64, err error)
}

// kernel is the real one.
type kernel struct{}

func (kernel) open(path string) (int, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return fd, nil
}

func (kernel) close(fd int) error { return unix.Close(fd) }

func (kernel) ioctl(fd int, req, arg uintptr) (int, error) {
	for {
		r, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), req, arg)
		if errno == 0 {
			return int(r), nil
		}
		if errno != unix.EINTR {
			return 0, errno
		}
	}
}

func (kernel) ioctlPtr(fd int, req uintptr, arg []byte) (int, error) {
	for {
		r, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), req, uintptr(pointerTo(arg)))
		if errno == 0 {
			return int(r), nil
		}
		if errno != unix.EINTR {
			return 0, errno
		}
	}
}

func (kernel) mmap(fd int, offset int64, length int) ([]byte, error) {
	return unix.Mmap(fd, offset, length, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
}

func (kernel) munmap(mem []byte) error { return unix.Munmap(mem) }

func (kernel) pread(fd int, b []byte, offset int64) (int, error)  { return unix.Pread(fd, b, offset) }
func (kernel) pwrite(fd int, b []byte, offset int64) (int, error) { return unix.Pwrite(fd, b, offset) }

func (kernel) eventfd() (int, error) { return unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK) }

// memlock reads the limit, and VmLck of /proc/self/status: VFIO counts the pages that it pins there.
func (kernel) memlock() (limit, used uint64, err error) {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &r); err != nil {
		return 0, 0, err
	}
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmLck:"); ok {
			kib, err := strconv.ParseUint(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 54)
			return r.Cur, kib << 10, err
		}
	}
	return 0, 0, errors.New("/proc/self/status does not tell VmLck")
}

// maxAnswer is the largest answer that a query accepts from the kernel, in bytes.
const maxAnswer = 1 << 20

// query makes an ioctl whose structure starts with argsz, and makes it again with more room while the kernel says that
// its answer is longer. head is the structure as the kernel shall read it.
func query(sys system, fd int, req uintptr, head []byte) ([]byte, error) {
	size := len(head)
	for range 8 { // an answer may grow meanwhile, but not for ever
		answer := make([]byte, size)
		copy(answer, head)
		binary.NativeEndian.PutUint32(answer, uint32(size))
		if _, err := sys.ioctlPtr(fd, req, answer); err != nil {
			return nil, err
		}
		want := int64(binary.NativeEndian.Uint32(answer))
		if want <= int64(size) {
			return answer, nil
		}
		if want > maxAnswer {
			return nil, fmt.Errorf("%w: an answer of %d bytes", ErrBadInfo, want)
		}
		size = int(want)
	}
	return nil, fmt.Errorf("%w: the answer keeps growing", ErrBadInfo)
}

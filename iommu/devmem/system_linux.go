package devmem

import (
	"os"

	"golang.org/x/sys/unix"
)

// system is the part of the kernel that this package uses. Tests put their own in its place.
type system struct {
	devMem, sysfs string // paths

	open    func(name string, flag int) (*os.File, error)
	pagemap func(entries []byte, off int64) error // reads /proc/self/pagemap
	mmap    func(fd int, offset int64, length int) ([]byte, error)
	munmap  func([]byte) error
}

var kernel = system{
	devMem: "/dev/mem", sysfs: "/sys",
	open:    func(name string, flag int) (*os.File, error) { return os.OpenFile(name, flag, 0) },
	pagemap: readPagemap,
	mmap: func(fd int, offset int64, length int) ([]byte, error) {
		return unix.Mmap(fd, offset, length, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	},
	munmap: unix.Munmap,
}

package qtest

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// memFile makes an unnamed file of the given size in memory. QEMU opens it
// through its inherited descriptor in /proc/self/fd, so nothing is left behind
// on any file system, however the processes end.
func memFile(name string, size int64) (*os.File, error) {
	fd, err := unix.MemfdCreate("gommu-"+name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create memory file for %s: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	if err := f.Truncate(size); err != nil {
		f.Close()
		return nil, fmt.Errorf("size memory file for %s to %d bytes: %w", name, size, err)
	}
	return f, nil
}

// firmwareFile is the firmware in a memory file.
func firmwareFile() (*os.File, error) {
	b := firmware()
	f, err := memFile("firmware", int64(len(b)))
	if err != nil {
		return nil, err
	}
	if _, err := f.WriteAt(b, 0); err != nil {
		f.Close()
		return nil, fmt.Errorf("write firmware: %w", err)
	}
	return f, nil
}

// mapFile maps all of f, shared.
func mapFile(f *os.File, size int64) ([]byte, error) {
	b, err := unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes of machine memory: %w", size, err)
	}
	return b, nil
}

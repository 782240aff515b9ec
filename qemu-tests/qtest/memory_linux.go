package qtest

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"gommu/qemu-tests/internal/child"
)

// ramFile makes the machine's memory.
func ramFile(size int64) (*os.File, error) {
	f, err := child.MemoryFile("gommu-ram")
	if err != nil {
		return nil, err
	}
	if err := f.Truncate(size); err != nil {
		f.Close()
		return nil, fmt.Errorf("size memory file to %d bytes: %w", size, err)
	}
	return f, nil
}

// firmwareFile is the firmware in a memory file.
func firmwareFile() (*os.File, error) {
	f, err := child.MemoryFile("gommu-firmware")
	if err != nil {
		return nil, err
	}
	if _, err := f.WriteAt(firmware(), 0); err != nil {
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

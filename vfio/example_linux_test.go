package vfio_test

import (
	"fmt"

	"golang.org/x/sys/unix"

	"gommu/pci"
	"gommu/vfio"
)

// A buffer is mapped for a device and taken away again. The function was bound to vfio-pci before.
func ExampleOpen() {
	run := func(addr pci.Address) error {
		dev, err := vfio.Open(addr, vfio.Options{})
		if err != nil {
			return err
		}
		defer dev.Close()
		mem, err := unix.Mmap(-1, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANONYMOUS|unix.MAP_PRIVATE)
		if err != nil {
			return err
		}
		defer unix.Munmap(mem)
		const iova = 0x100000
		if err := dev.Container().MapDMA(iova, mem, vfio.DMARead|vfio.DMAWrite); err != nil {
			return err
		}
		// Here the device is told to read and write at iova.
		return dev.Container().UnmapDMA(iova, uint64(len(mem)))
	}
	fmt.Println(run(pci.Address{Domain: 0xffff, Device: 31, Function: 7}))
	// Output: pci: read ffff:00:1f.7: no such PCI function; `gommu devices` lists them
}

//go:build linux

package qtest_test

import (
	"context"
	"fmt"

	"gommu/iommu/vtd"
	"gommu/pci"
	"gommu/qemu-tests/qtest"
)

// A machine with one device, and what its unit can do.
func ExampleStart() {
	m, err := qtest.Start(context.Background(), qtest.Config{
		QEMU:    "/usr/bin/qemu-system-x86_64",
		Devices: []string{"edu,addr=0x3,dma_mask=0xffffffffffffffff"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer m.Close()
	unit := m.IOMMU()
	fmt.Println(vtd.DecodeCapabilities(unit.Read32(0x00), unit.Read64(0x08), unit.Read64(0x10)))

	f, err := m.PCI(pci.Address{Device: 3})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer f.Close()
	ids, err := pci.ReadIDs(f.Config())
	fmt.Printf("%v is %04x:%04x %v\n", f.Address(), ids.Vendor, ids.Device, err)
}

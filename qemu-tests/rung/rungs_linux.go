package rung

import (
	"errors"
	"fmt"

	"gommu/pci"
	"gommu/qemu-tests/provision"
	"gommu/qemu-tests/vm"
	"gommu/vfio"
	"gommu/vfio/edu"
)

var rungs = []rung{
	{name: "model", open: openModel},
	{name: "qtest", open: openQtest},
	{name: "vm", open: openDevmem, guest: devmemGuest},
	{name: "vfio", open: openVFIO, guest: vfioGuest},
}

// vfioMachine is what only Linux has.
type vfioMachine struct {
	Container *vfio.Container // what the devices are in on vfio; nil elsewhere
}

// eduDevices are arguments of QEMU's -device for edu devices that drive all
// IOVAs, from slot 3 on.
func eduDevices(n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprintf("edu,addr=%#x,dma_mask=%#x", 3+i, ^uint64(0)))
	}
	return all
}

// devmemGuest is a guest whose kernel leaves the unit alone.
func devmemGuest(o Options, in provision.Installed) (vm.Machine, error) {
	properties, err := QEMUUnit(in.QEMUs[0].Version, o.Mode, o.Variant)
	iommu := fmt.Sprintf("intremap=on,aw-bits=%d", o.Variant.width())
	if properties != "" {
		iommu += "," + properties
	}
	pages := (o.Memory + o.Tables) / size2M
	return vm.Machine{
		IOMMU:   iommu,
		Cmdline: fmt.Sprintf("%s hugepages=%d", UnitCmdline, pages),
		Memory:  512 + 2*pages,
		Devices: eduDevices(o.Devices),
	}, err
}

// vfioGuest is a guest whose kernel has the unit.
func vfioGuest(o Options, _ provision.Installed) (vm.Machine, error) {
	return vm.Machine{
		Modules: []string{"vfio-pci", "vfio_iommu_type1"},
		Memory:  512 + 2*o.Memory>>20,
		Devices: eduDevices(o.Devices),
	}, nil
}

// EduFunctions lists this machine's edu devices, in order.
func EduFunctions() ([]pci.Info, error) {
	all, err := pci.Scan()
	if err != nil {
		return nil, err
	}
	var edus []pci.Info
	for _, i := range all {
		if i.Vendor == edu.VendorID && i.Device == edu.DeviceID {
			edus = append(edus, i)
		}
	}
	return edus, nil
}

var errDevices = errors.New("want more edu devices (1234:11e8) than this machine has")

// eduAddresses are the devices that are asked for.
func eduAddresses(o Options) ([]pci.Address, error) {
	if o.Address != "" {
		a, err := pci.ParseAddress(o.Address)
		return []pci.Address{a}, err
	}
	edus, err := EduFunctions()
	if err != nil {
		return nil, err
	}
	if len(edus) < o.Devices {
		return nil, fmt.Errorf("%w: %d of %d; rung.Run boots a guest that has them", errDevices, len(edus), o.Devices)
	}
	var all []pci.Address
	for _, i := range edus[:o.Devices] {
		all = append(all, i.Address)
	}
	return all, nil
}

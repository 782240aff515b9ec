package vm_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"gommu/qemu-tests/vm"
)

// Tests of the package in ./guest run in a machine with an edu device, and their results become
// subtests of this one.
func ExampleRun() {
	_ = func(t *testing.T) { // func TestInGuest(t *testing.T)
		vm.Run(t, vm.Config{
			Package: "./guest",
			Machine: vm.Machine{
				Modules: []string{"vfio-pci", "vfio_iommu_type1"},
				Devices: []string{"edu,addr=0x3,dma_mask=0xffffffffffffffff"},
			},
		})
	}
}

// A program boots itself: guest.Init in its main does the rest.
func ExampleBoot() {
	exe, err := os.Executable()
	if err != nil {
		fmt.Println(err)
		return
	}
	res, err := vm.Boot(context.Background(), vm.Machine{
		Init:    exe,
		Args:    []string{"demo", "--on", "vfio", "--json"},
		Modules: []string{"vfio-pci", "vfio_iommu_type1"},
		Devices: []string{"edu,addr=0x3"},
		Output:  os.Stderr,
	})
	if err != nil {
		fmt.Println(err) // names what is missing and how to get it
		return
	}
	fmt.Printf("exit code %d\n%s", res.ExitCode, res.Stdout)
}

// What can be wrong is known by its error.
func ExampleError() {
	_, err := vm.Boot(context.Background(), vm.Machine{})
	fmt.Println(err != nil)
	// Output: true
}

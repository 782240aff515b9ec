// Package qemutests runs the tests of qemu-tests/guest in guests. The tests of
// the other rung are in qemu-tests/qtest.
package qemutests

import (
	"os"
	"testing"
	"time"

	"gommu/qemu-tests/provision"
	"gommu/qemu-tests/vm"
)

var vfioModules = []string{"vfio-pci", "vfio_iommu_type1", "e1000"}

// TestGuest runs the guest's tests on every QEMU that is set up, with the distribution's kernel, and on the newest with every other
// kernel: an edu device in a
// group of its own, one whose group has a network card with a driver, a disk
// controller with MSI-X and a function level reset, and a card with a small BAR.
func TestGuest(t *testing.T) {
	in := vm.Require(t)
	for i, q := range in.QEMUs {
		not := "^TestVFIONoIOMMU$" // TestGuestWithoutIOMMU runs it
		if i > 0 {
			not += "|^TestTrace" // which QEMU it is makes no difference to them, and they take long
		}
		t.Run(q.Version, func(t *testing.T) { inGuest(t, q, in.Kernel, not) })
	}
	for _, k := range in.Kernels {
		if k != in.Kernel {
			t.Run(k.Release, func(t *testing.T) { inGuest(t, in.QEMUs[0], k, "^TestVFIONoIOMMU$") })
		}
	}
	if len(in.Kernels) < 2 && os.Getenv("GOMMU_KERNEL") == "" {
		t.Run("newer kernel", func(t *testing.T) {
			if os.Getenv("CI") == "true" {
				t.Fatalf("CI wants the kernel of the next release: %q", in.Notes)
			}
			t.Skipf("needs the kernel of the next release, which `gommu setup` gets where the distribution has it: %q", in.Notes)
		})
	}
}

func inGuest(t *testing.T, q provision.QEMU, k provision.Kernel, not string) {
	vm.Run(t, vm.Config{
		Package: "gommu/qemu-tests/guest",
		Machine: vm.Machine{
			QEMU:    q,
			Kernel:  k,
			Args:    []string{"-test.skip=" + not},
			Modules: vfioModules,
			Devices: []string{
				"edu,addr=0x3,dma_mask=0xffffffffffffffff",
				"pcie-root-port,id=rp,addr=0x4",
				"e1000,addr=0x5,romfile=",
				"pcie-pci-bridge,id=pb,addr=0x6",
				"edu,bus=pb,addr=0x1",
				"e1000,bus=pb,addr=0x2,romfile=",
				"nvme,drive=null,serial=gommu,addr=0x7",
				"rtl8139,mac=02:11:22:33:44:55,addr=0x8,romfile=",
			},
			QEMUArgs: []string{"-blockdev", "null-co,node-name=null,size=1048576"},
			Timeout:  3 * time.Minute,
		},
	})
}

// TestGuestWithoutIOMMU: what VFIO says where no IOMMU is on.
func TestGuestWithoutIOMMU(t *testing.T) {
	vm.Run(t, vm.Config{
		Package: "gommu/qemu-tests/guest",
		Tests:   "^TestVFIONoIOMMU$",
		Machine: vm.Machine{IOMMU: "off", Modules: vfioModules, Devices: []string{"edu,addr=0x3"}},
	})
}

package qemutests

import (
	"strings"
	"testing"

	"gommu/qemu-tests/vm"
)

// unitCmdline leaves the unit, its registers and some hugepages to the program in the guest.
const unitCmdline = "intel_iommu=off intremap=off iomem=relaxed hugepages=16"

// TestGuestUnit runs the tests of a unit that the program in the guest owns, on every QEMU. A unit
// with scalable mode has legacy mode too; each has one of the two stages.
func TestGuestUnit(t *testing.T) {
	for _, q := range vm.Require(t).QEMUs {
		for name, iommu := range map[string]string{"second": "x-scalable-mode=on", "first": "x-scalable-mode=on,x-flts=on"} {
			t.Run(q.Version+"/"+name, func(t *testing.T) {
				if name == "first" && strings.HasPrefix(q.Version, "7.") {
					t.Skipf("QEMU %s walks no first-stage tables; 10.0 does", q.Version)
				}
				vm.Run(t, vm.Config{
					Package: "gommu/qemu-tests/guest",
					Tests:   "^TestUnit",
					Machine: vm.Machine{
						QEMU:    q,
						IOMMU:   "intremap=on,aw-bits=48," + iommu,
						Cmdline: unitCmdline,
						Devices: []string{"edu,addr=0x3,dma_mask=0xffffffffffffffff"},
					},
				})
			})
		}
	}
}

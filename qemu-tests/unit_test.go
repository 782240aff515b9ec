//go:build linux

package qemutests

import (
	"errors"
	"testing"

	"gommu/qemu-tests/conformance"
	"gommu/qemu-tests/rung"
	"gommu/qemu-tests/vm"
)

// TestGuestUnit runs the tests of a unit that the program in the guest owns, on every QEMU. A unit
// with scalable mode has legacy mode too; each has one of the two stages.
func TestGuestUnit(t *testing.T) {
	for _, q := range vm.Require(t).QEMUs {
		for _, m := range []conformance.Mode{conformance.ScalableSecond, conformance.ScalableFirst} {
			t.Run(q.Version+"/"+string(m), func(t *testing.T) {
				properties, err := rung.QEMUUnit(q.Version, m, conformance.Variant{})
				if why, ok := errors.AsType[conformance.Unavailable](err); ok {
					t.Skip(why)
				}
				if err != nil {
					t.Fatal(err)
				}
				vm.Run(t, vm.Config{
					Package: "gommu/qemu-tests/guest",
					Tests:   "^TestUnit",
					Machine: vm.Machine{
						QEMU:    q,
						IOMMU:   "intremap=on,aw-bits=48," + properties,
						Cmdline: conformance.DevmemCmdline,
						Devices: []string{"edu,addr=0x3,dma_mask=0xffffffffffffffff"},
					},
				})
			})
		}
	}
}

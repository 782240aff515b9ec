//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"gommu/qemu-tests/provision"
	"gommu/qemu-tests/vm"
)

// guestModules are what VFIO type 1 needs of the kernel.
var guestModules = []string{"vfio-pci", "vfio_iommu_type1"}

// demoVM boots this very program in a guest, where it runs the demonstration
// on the vfio rung, and takes over the guest's report.
func demoVM(ctx context.Context, in provision.Installed, r *report) error {
	r.QEMU, r.Kernel = in.QEMUs[0].Version, in.Kernel.Release
	self, err := os.Executable()
	if err != nil {
		return err
	}
	res, err := vm.Boot(ctx, vm.Machine{
		QEMU:    in.QEMUs[0],
		Kernel:  in.Kernel,
		Init:    self,
		Args:    []string{"demo", "--on", "vfio", "--json"},
		Devices: []string{"edu,addr=0x3"},
		Modules: guestModules,
	})
	if err != nil {
		return err
	}
	guest := *r
	if err := json.Unmarshal(res.Stdout, &guest); err != nil {
		return fmt.Errorf("the guest's report is not JSON (exit code %d): %w; it wrote: %s", res.ExitCode, err, strings.TrimSpace(string(res.Stderr)))
	}
	guest.Rung, guest.Why = r.Rung, r.Why
	guest.QEMU, guest.Kernel = r.QEMU, r.Kernel
	*r = guest
	switch {
	case r.Error != "":
		return errors.New(r.Error)
	case res.ExitCode != 0:
		return fmt.Errorf("the program in the guest ended with exit code %d: %s", res.ExitCode, strings.TrimSpace(string(res.Stderr)))
	}
	return nil
}

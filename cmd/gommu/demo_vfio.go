//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"gommu/pci"
	"gommu/qemu-tests/rung"
	"gommu/vfio/edu"
)

// eduAddress is the device that the user named, or the only one there is.
func eduAddress(named string) (pci.Address, error) {
	if named != "" {
		return pci.ParseAddress(named)
	}
	edus, err := rung.EduFunctions()
	if err != nil {
		return pci.Address{}, err
	}
	switch len(edus) {
	case 0:
		return pci.Address{}, errors.New("this machine has no edu device (1234:11e8), the only one that the demo can drive; use --on vm, which has one")
	case 1:
		return edus[0].Address, nil
	default:
		return pci.Address{}, fmt.Errorf("this machine has %d edu devices; name one with --device %s", len(edus), edus[0].Address)
	}
}

// demoVFIO runs the demonstration through VFIO type 1 on this machine's kernel.
func demoVFIO(ctx context.Context, opts demoOptions, r *report) (err error) {
	r.DMA = "VFIO type 1, tables written by the kernel"
	s := &stage{}
	defer func() { err = errors.Join(err, s.close(r)) }()
	addr, err := eduAddress(opts.device)
	if err != nil {
		return err
	}
	r.Device = addr.String()
	if _, err := (pci.Sysfs{}).GroupOf(addr); err != nil {
		return err
	}
	if r.Unit, err = kernelUnit("/sys", addr); err != nil {
		return err
	}
	if s.log, err = openKernelLog(); err != nil {
		return err
	}
	o := rung.Options{Address: addr.String(), Mask: opts.dmaMask}
	if o.Mask == 0 {
		o.Mask = edu.DefaultDMAMask
	}
	if err := s.open(ctx, "vfio", o, r); err != nil {
		return err
	}
	demo := demonstration{stage: s, r: r, beforeTransfer: opts.beforeTransfer}
	return demo.run(ctx)
}

// kernelUnit is what Linux says of the unit that covers a function.
func kernelUnit(sysfs string, addr pci.Address) (unit, error) {
	dir := filepath.Join(sysfs, "bus/pci/devices", addr.String(), "iommu/intel-iommu")
	var u unit
	for _, f := range []struct {
		name string
		to   *string
	}{{"version", &u.Version}, {"cap", &u.Cap}, {"ecap", &u.Ecap}} {
		text, err := os.ReadFile(filepath.Join(dir, f.name))
		if err != nil {
			return unit{}, fmt.Errorf("reading what the kernel says of the IOMMU of %s (is it a VT-d unit?): %w", addr, err)
		}
		v := strings.TrimPrefix(strings.TrimSpace(string(text)), "0x")
		if f.name == "version" {
			v = strings.ReplaceAll(v, ":", "") // Linux writes major:minor
		}
		*f.to = "0x" + v
	}
	return u, nil
}

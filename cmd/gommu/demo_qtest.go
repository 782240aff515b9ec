//go:build linux

package main

import (
	"context"
	"errors"

	"gommu/pci"
	"gommu/qemu-tests/provision"
	"gommu/qemu-tests/qtest"
	"gommu/vfio/edu"
)

// qtestDemo says how to run the demonstration on QEMU without a guest.
type qtestDemo struct {
	qemu          provision.QEMU
	beforeRequest func(n int, command string) error // fault injection for tests
}

// qtestStage is a machine with one unit, one table and one device.
type qtestStage struct {
	unitStage
	machine *qtest.Machine
	fn      pci.Function
	edu     *edu.Device
	died    error // what stopped the machine before it was closed: what else went wrong followed from it
}

// demoQtest runs the demonstration on QEMU's VT-d through tables that this
// process writes.
func demoQtest(ctx context.Context, d qtestDemo, r *report) (err error) {
	r.QEMU = d.qemu.Version
	s := &qtestStage{}
	defer func() {
		closing := s.close(r)
		err = errors.Join(s.died, err, closing)
	}()
	if err := s.open(ctx, d, r); err != nil {
		return err
	}
	demo := demonstration{stage: s, r: r}
	return demo.run(ctx)
}

func (s *qtestStage) open(ctx context.Context, d qtestDemo, r *report) error {
	var err error
	s.machine, err = qtest.Start(ctx, qtest.Config{
		QEMU:          d.qemu.Path,
		Memory:        unitRAM,
		Devices:       []string{"edu,addr=0x3,dma_mask=0xffffffffffffffff"},
		BeforeRequest: d.beforeRequest,
	})
	if err != nil {
		return err
	}
	s.ram, s.at = s.machine.RAM(), pci.Address{Device: 3}
	if s.fn, err = s.machine.PCI(s.at); err != nil {
		return err
	}
	if s.edu, err = edu.Open(s.fn, edu.Options{DMAMask: ^uint64(0)}); err != nil {
		return err
	}
	s.device = s.edu
	return s.unitStage.open(ctx, s.machine.IOMMU(), r)
}

// close gives everything back: the device is stopped before its mappings go.
func (s *qtestStage) close(r *report) error {
	var errs []error
	if s.edu != nil {
		errs = append(errs, s.edu.Close())
	}
	if s.fn != nil {
		errs = append(errs, s.fn.Close())
	}
	errs = append(errs, s.unitStage.close(r))
	if s.machine != nil {
		s.died = s.machine.Err()
		errs = append(errs, s.machine.Close())
	}
	return errors.Join(errs...)
}

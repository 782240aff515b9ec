package measure

import (
	"context"
	"errors"

	"gommu/iommu"
	"gommu/qemu-tests/rung"
)

// Kernel measures what goes through this machine's kernel: the ioctls of VFIO type 1, and a premapped
// domain over the same container. It blocks.
func Kernel(ctx context.Context, o rung.Options, e Extent) (r Report, err error) {
	o.NoDomain = true
	m, err := rung.Open(ctx, "vfio", o)
	if err != nil {
		return Report{}, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	k := onKernel{m: m}
	defer func() { err = errors.Join(err, k.close()) }()
	if err := k.open(ctx); err != nil {
		return Report{}, err
	}
	return Run(ctx, e.plan(k.cells(e)))
}

// onKernel is what is measured where the unit is the kernel's.
type onKernel struct {
	m            *rung.Machine
	mem, foreign []byte
	domain       *iommu.Domain
	closers
}

// open makes the domain, which leaves some IOVAs to the ioctls.
func (k *onKernel) open(ctx context.Context) error {
	for _, mem := range []*[]byte{&k.mem, &k.foreign} {
		var err error
		if *mem, err = k.m.Memory.Alloc(ctx, memorySize); err != nil {
			return err
		}
		clear(*mem) // the kernel gives the memory on first use
		k.later(func() error { return k.m.Memory.Free(*mem) })
	}
	opts := iommu.Options{Name: Premapped, Reserved: []iommu.IOVARange{{Start: VFIOBase, Last: VFIOBase + VFIOSize - 1}}}
	var err error
	if k.domain, err = iommu.NewPremapped(ctx, k.m.Memory, k.m.Mapper, opts); err != nil {
		return err
	}
	k.laterWithin(k.domain.Close)
	region, err := k.domain.Register(ctx, k.mem, iommu.Bidirectional)
	if err != nil {
		return err
	}
	k.later(region.Close)
	return nil
}

func (k *onKernel) cells(e Extent) []Cell {
	ioctls := family{NewVFIO(k.m.Container, k.mem), VFIO, "ioctl", 1, Shapes()}
	premapped := family{NewDomain(k.domain, k.mem), Premapped, "premapped", 1, Shapes()}
	bounced := family{NewDomain(k.domain, k.foreign), Bounced, "premapped", 1, []Shape{Page, Buffer}}
	cells := append(ioctls.each(), premapped.each()...)
	cells = append(cells, bounced.each()...)
	cells = append(cells, ioctls.beside(e.neighbours())...)
	cells = append(cells, premapped.beside(e.neighbours())...)
	cells = append(cells, ioctls.crowded()...)
	return append(cells, premapped.crowded()...)
}

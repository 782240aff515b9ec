package devmem_test

import (
	"context"
	"errors"
	"fmt"

	"gommu/iommu/devmem"
	"gommu/iommu/vtd"
	"gommu/pagetable"
	"gommu/respool"
)

// A process takes the unit of a machine that was booted with
// intel_iommu=off intremap=off iomem=relaxed hugepages=16.
func Example() {
	own := func(ctx context.Context, address uint64) (err error) {
		regs, err := devmem.Open(address, devmem.Options{})
		if err != nil {
			return err // names what is missing
		}
		defer func() { err = errors.Join(err, regs.Close()) }()
		mem, err := devmem.NewMemory(ctx, 2<<20)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, mem.Close()) }()
		tables, err := pagetable.NewMemory(mem.Segments()...)
		if err != nil {
			return err
		}
		frames, err := respool.New(ctx, tables.Frames(), respool.Options{Name: "frames"})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, frames.Close(context.Background())) }()
		unit, err := vtd.Open(regs, tables, frames, vtd.Options{})
		if err != nil {
			return err
		}
		fmt.Println(unit.Capabilities())
		return unit.Close()
	}
	fmt.Println(own(context.Background(), 0xfed90008))
	// Output:
	// devmem: open unit at 0xfed90008: not a multiple of the page size of 4096: address 0xfed90008, 4096 bytes
}

package pagetable_test

import (
	"context"
	"fmt"
	"log"

	"golang.org/x/sys/unix"

	"gommu/pagetable"
	"gommu/respool"
)

// A buffer of 2 MiB and a page is mapped for a device, looked up, and unmapped.
func Example() {
	// 64 frames of memory that the unit reaches at bus address 16 MiB.
	raw, err := unix.Mmap(-1, 0, 64*pagetable.FrameSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		log.Fatal(err)
	}
	defer unix.Munmap(raw)
	mem, err := pagetable.NewMemory(pagetable.Segment{Bus: 16 << 20, Mem: raw})
	if err != nil {
		log.Fatal(err)
	}
	frames, err := respool.New(context.Background(), mem.Frames(), respool.Options{Name: "frames", Min: 8, Max: 64})
	if err != nil {
		log.Fatal(err)
	}
	defer frames.Close(context.Background())

	table, err := pagetable.New(mem, frames, pagetable.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer table.Close() // after the unit has stopped walking it
	if err := table.Map(0x40000000, 0x80000000, 2<<20+4096, pagetable.Read|pagetable.Write); err != nil {
		log.Fatal(err)
	}
	leaf, ok := table.Lookup(0x40200123)
	fmt.Printf("%#x %d %v %v\n", leaf.Bus, leaf.Size, leaf.Prot, ok)
	for leaf := range table.All() {
		fmt.Printf("%#x -> %#x, %d KiB\n", leaf.IOVA, leaf.Bus, leaf.Size>>10)
	}

	var batch pagetable.Batch
	n, err := table.Unmap(0x40000000, 1<<30, &batch)
	if err != nil {
		log.Fatal(err)
	}
	first, last, _ := batch.Range()
	fmt.Printf("%#x bytes unmapped, invalidate %#x to %#x, tables unlinked: %v\n", n, first, last, batch.Tables() > 0)
	// The caller invalidates here.
	if err := batch.Release(); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%+v\n", table.Stats())
	// Output:
	// 0x80200000 4096 rw true
	// 0x40000000 -> 0x80000000, 2048 KiB
	// 0x40200000 -> 0x80200000, 4 KiB
	// 0x201000 bytes unmapped, invalidate 0x40000000 to 0x7fffffff, tables unlinked: true
	// {Leaves4K:0 Leaves2M:0 Leaves1G:0 Tables:1}
}

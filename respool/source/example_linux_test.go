package source_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"gommu/respool"
	"gommu/respool/source"
)

func ExamplePages() {
	ctx := context.Background()
	pages, err := source.NewPages(source.PagesOptions{Size: 2048, Limit: 64 << 20})
	if err != nil {
		log.Fatal(err)
	}
	pool, err := respool.New(ctx, pages, respool.Options{Low: 32, Max: 4096})
	if err != nil {
		log.Fatal(err)
	}

	b, err := pool.Get() // a Block: no pointer
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(pages.Bytes(b)), "bytes for a packet")

	pool.Put(b)
	if err := pool.Close(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println(pages.Stats().Mapped, "bytes mapped,", pages.Close())
	// Output:
	// 2048 bytes for a packet
	// 0 bytes mapped, <nil>
}

func ExampleHugePages() {
	ctx := context.Background()
	arena, err := source.NewHugePages(source.HugePagesOptions{
		Size:     64 << 10,
		Fallback: true, // without it, Alloc fails where no hugepages are reserved
	})
	if err != nil {
		log.Fatal(err)
	}
	b, err := arena.Alloc(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(arena.Bytes(b)), "of", arena.Stats().Mapped, "bytes")
	fmt.Println(arena.Free(b), arena.Close())
	// Output:
	// 65536 of 2097152 bytes
	// <nil> <nil>
}

// The serial number in a Block tells who gave back what.
func ExampleBlock() {
	pages, err := source.NewPages(source.PagesOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer pages.Close()
	b, err := pages.Alloc(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(pages.Free(b))
	fmt.Println(errors.Is(pages.Free(b), source.ErrForeign), pages.Bytes(b) == nil)
	// Output:
	// <nil>
	// true true
}

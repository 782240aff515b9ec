package iova_test

import (
	"context"
	"fmt"
	"log"

	"gommu/iommu/iova"
)

// A driver's loop has a cache of its own.
func ExampleCache() {
	ctx := context.Background()
	s, err := iova.New(ctx, iova.Options{Below: 1 << 32, Guard: true})
	if err != nil {
		log.Fatal(err)
	}
	c := s.NewCache(0)

	w, err := c.Alloc(1500)
	if err != nil {
		log.Fatal(err) // ErrEmpty: the worker makes more
	}
	fmt.Println("bytes:", w.Size)
	// Map, let the device work, unmap, invalidate. Then:
	if err := c.Free(w); err != nil {
		log.Fatal(err)
	}
	fmt.Println(c.Free(w) != nil)

	if err := c.Close(); err != nil {
		log.Fatal(err)
	}
	if err := s.Close(ctx); err != nil {
		log.Fatal(err)
	}
	// Output:
	// bytes: 4096
	// true
}

// What a device is to reach at a fixed place, or in a special one, comes straight from the range.
func ExampleSpace_AllocWait() {
	ctx := context.Background()
	s, err := iova.New(ctx, iova.Options{})
	if err != nil {
		log.Fatal(err)
	}
	w, err := s.AllocWait(ctx, iova.Request{Size: 24 << 10, Align: 32 << 10, Boundary: 64 << 10, Below: 1 << 24})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%#x bytes at %#x\n", w.Size, w.Start)
	if err := s.FreeWait(w); err != nil {
		log.Fatal(err)
	}
	if err := s.Close(ctx); err != nil {
		log.Fatal(err)
	}
	// Output: 0x6000 bytes at 0xff8000
}

// A ring's windows lie side by side.
func ExampleRing() {
	ctx := context.Background()
	s, err := iova.New(ctx, iova.Options{})
	if err != nil {
		log.Fatal(err)
	}
	r, err := s.NewRing(ctx, 2<<20, 256)
	if err != nil {
		log.Fatal(err)
	}
	var burst [3]iova.Window
	for i := range burst {
		if burst[i], err = r.Alloc(9000); err != nil {
			log.Fatal(err) // ErrEmpty: the oldest is in use still
		}
		fmt.Printf("%#x\n", burst[i].Start-r.Start())
	}
	// One invalidation covers them.
	for _, w := range burst {
		if err := r.Free(w); err != nil {
			log.Fatal(err)
		}
	}
	if err := r.Close(); err != nil {
		log.Fatal(err)
	}
	if err := s.Close(ctx); err != nil {
		log.Fatal(err)
	}
	// Output:
	// 0x0
	// 0x3000
	// 0x6000
}

package respool_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"gommu/respool"
)

// pages makes pages of memory. A real one would lock them in RAM and tell a device.
type pages struct{}

func (pages) Alloc(context.Context) ([]byte, error) { return make([]byte, 4096), nil }
func (pages) Free([]byte) error                     { return nil }

func Example() {
	ctx := context.Background()
	pool, err := respool.New(ctx, pages{}, respool.Options{Name: "pages", Low: 2, High: 4, Max: 16})
	if err != nil {
		log.Fatal(err)
	}

	page, err := pool.Get() // never sleeps: fine under a lock
	if errors.Is(err, respool.ErrEmpty) {
		log.Fatal("come back later")
	}
	fmt.Println(len(page), "bytes,", pool.Stats().InUse, "in use")

	if err := pool.Put(page); err != nil {
		log.Fatal(err)
	}
	if err := pool.Close(ctx); err != nil { // would say how many are still out
		log.Fatal(err)
	}
	_, err = pool.Get()
	fmt.Println(err)
	// Output:
	// 4096 bytes, 1 in use
	// respool: get "pages": pool is closed
}

// A poll loop takes a cache of its own.
func ExampleCache() {
	ctx := context.Background()
	pool, err := respool.New(ctx, pages{}, respool.Options{Low: 64})
	if err != nil {
		log.Fatal(err)
	}
	cache := pool.NewCache(32) // this goroutine's
	page, err := cache.Get()
	if err != nil {
		log.Fatal(err)
	}
	s := pool.Stats()
	fmt.Println(s.InUse, "in use,", s.Cached, "cached")

	if err := cache.Put(page); err != nil {
		log.Fatal(err)
	}
	if err := cache.Close(); err != nil { // gives back what it holds
		log.Fatal(err)
	}
	if err := pool.Close(ctx); err != nil {
		log.Fatal(err)
	}
	// Output:
	// 1 in use, 16 cached
}

func ExamplePool_GetBatch() {
	ctx := context.Background()
	pool, err := respool.New(ctx, pages{}, respool.Options{Low: 8, Max: 8})
	if err != nil {
		log.Fatal(err)
	}
	batch := make([][]byte, 5)
	fmt.Println(pool.GetBatch(batch))
	fmt.Println(pool.GetBatch(make([][]byte, 5))) // three are left: not one of them is taken
	fmt.Println(pool.PutBatch(batch))
	if err := pool.Close(ctx); err != nil {
		log.Fatal(err)
	}
	// Output:
	// <nil>
	// respool: get: pool is empty
	// <nil>
}

package respool_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"gommu/respool"
)

// Ordinary requests leave two elements, so that those who clean up can go on.
func ExampleAccess() {
	ctx := context.Background()
	pool, err := respool.New(ctx, pages{}, respool.Options{Low: 3, Max: 3, OrdinaryMark: 2})
	if err != nil {
		log.Fatal(err)
	}
	first, _ := pool.Get()
	_, err = pool.Get()
	fmt.Println(respool.Ordinary, errors.Is(err, respool.ErrEmpty))
	second, err := pool.As(respool.Critical).Get()
	fmt.Println(respool.Critical, err)

	if err := errors.Join(pool.Put(first), pool.Put(second), pool.Close(ctx)); err != nil {
		log.Fatal(err)
	}
	// Output:
	// ordinary true
	// critical <nil>
}

// An error says what failed, at which pool, and how many elements it is about.
func ExampleOpError() {
	pool, err := respool.New(context.Background(), pages{}, respool.Options{Name: "pages"})
	if err != nil {
		log.Fatal(err)
	}
	page, _ := pool.Get()
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	var op *respool.OpError
	if err := pool.Close(ctx); errors.As(err, &op) && errors.Is(err, respool.ErrLeaked) {
		fmt.Println(op.Op, op.Pool, op.Out)
	}
	again := make(chan error)
	go func() { again <- pool.Close(context.Background()) }() // Put is accepted while a Close waits
	for pool.Put(page) != nil {
		time.Sleep(time.Millisecond)
	}
	fmt.Println(<-again)
	// Output:
	// close pages 1
	// <nil>
}

func ExampleStats() {
	ctx := context.Background()
	pool, err := respool.New(ctx, pages{}, respool.Options{Low: 4, High: 4})
	if err != nil {
		log.Fatal(err)
	}
	page, _ := pool.Get()
	s := pool.Stats()
	fmt.Println(s.Free, "free,", s.InUse, "in use,", s.Gets, "got, at least", s.LowestFree, "were free")
	if err := errors.Join(pool.Put(page), pool.Close(ctx)); err != nil {
		log.Fatal(err)
	}
	// Output: 3 free, 1 in use, 1 got, at least 3 were free
}

// One goroutine that may not wait for elements, but for a channel, is told when there are some again.
func ExamplePool_Returned() {
	ctx := context.Background()
	pool, err := respool.New(ctx, pages{}, respool.Options{Low: 1, Max: 1})
	if err != nil {
		log.Fatal(err)
	}
	page, _ := pool.Get()
	_, err = pool.Get()
	fmt.Println(err)
	go func() { _ = pool.Put(page) }()
	<-pool.Returned()
	page, err = pool.Get()
	fmt.Println(len(page), err)
	if err := errors.Join(pool.Put(page), pool.Close(ctx)); err != nil {
		log.Fatal(err)
	}
	// Output:
	// respool: get: pool is empty
	// 4096 <nil>
}

package respool_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gommu/respool"
	"gommu/respool/source"
)

// A driver slows down its clients while the pool would be dry within a second.
func ExamplePool_Forecast() {
	pool, err := respool.New(context.Background(), source.Values[int]{}, respool.Options{Min: 100, Low: 50, High: 100})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = pool.Close(context.Background()) }()

	if f := pool.Forecast(); f.Dry && f.DryIn < time.Second {
		fmt.Println("slow down")
	} else {
		fmt.Println(f.Free, "free, nothing to fear")
	}
	// Output: 100 free, nothing to fear
}

// A pool that could hold more memory than it may is refused before it holds any.
func ExampleOptions_maxBytes() {
	_, err := respool.New(context.Background(), source.Values[int]{}, respool.Options{Name: "pages", Min: 1000, ElemSize: 4096, MaxBytes: 1 << 20})
	fmt.Println(errors.Is(err, respool.ErrLimit))
	fmt.Println(err)
	// Output:
	// true
	// respool: new "pages": bad options: above the limit of memory: 1000 elements of 4096 bytes are more than the 1048576 bytes that MaxBytes allows: have at most 256 elements, or raise it
}

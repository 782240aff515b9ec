//go:build debug

package respool_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"gommu/respool"
)

// A debug build refuses a page that is in the pool already, and says who put it there.
func ExampleReport() {
	pool, err := respool.New(context.Background(), pages{}, respool.Options{
		Name:      "pages",
		HoldLimit: time.Minute,
		OnReport: func(r respool.Report) {
			fmt.Println(r.Kind)
			for _, s := range r.Stacks {
				fmt.Println(" ", s.What)
			}
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	a, err := pool.Get()
	if err != nil {
		log.Fatal(err)
	}
	b, err := pool.Get()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(pool.Put(a))
	fmt.Println(errors.Is(pool.Put(a), respool.ErrDoublePut))
	fmt.Println(pool.Put(b), pool.Close(context.Background()))
	// Output:
	// <nil>
	// put twice
	//   put again
	//   put
	//   got before that
	// true
	// <nil> <nil>
}

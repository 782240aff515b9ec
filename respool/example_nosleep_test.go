package respool_test

import (
	"context"
	"fmt"
	"log"

	"gommu/respool"
)

// While a device is being polled nothing may wait. A debug build holds everybody to it.
func ExampleBeginNoSleep() {
	pool, err := respool.New(context.Background(), pages{}, respool.Options{})
	if err != nil {
		log.Fatal(err)
	}
	section := respool.BeginNoSleep()
	page, err := pool.Get() // GetWait would panic in a debug build
	fmt.Println(err, pool.Put(page))
	section.End()
	fmt.Println(pool.Close(context.Background()))
	// Output:
	// <nil> <nil>
	// <nil>
}

package respool_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"gommu/respool"
)

// A daemon gets, with each request, the memory to do it with.
func ExampleReservation() {
	ctx := context.Background()
	pool, err := respool.New(ctx, pages{}, respool.Options{Low: 4, High: 4, Max: 4})
	if err != nil {
		log.Fatal(err)
	}
	requests := make(chan *respool.Reservation[[]byte])
	done := make(chan struct{})
	go func() {
		defer close(done)
		for r := range requests {
			page, err := r.Get() // cannot fail: two were reserved
			fmt.Println(len(page), "bytes,", r.Len(), "left,", err)
			if err := errors.Join(pool.Put(page), r.Return()); err != nil {
				log.Print(err)
			}
		}
	}()

	r, err := pool.Reserve(2) // both or none, never sleeps
	if err != nil {
		log.Fatal(err)
	}
	requests <- r
	close(requests)
	<-done
	_, err = pool.Reserve(5)
	fmt.Println(err)
	if err := pool.Close(ctx); err != nil {
		log.Fatal(err)
	}
	// Output:
	// 4096 bytes, 1 left, <nil>
	// respool: reserve: more elements than the pool can ever have: ask for 0 to 4, or raise Max
}

type numbers struct{}

func (numbers) Alloc(context.Context) (int, error) { return 7, nil }
func (numbers) Free(int) error                     { return nil }

// A request needs a page and two numbers, or nothing.
func ExampleReserveAll() {
	ctx := context.Background()
	ps, err1 := respool.New(ctx, pages{}, respool.Options{Low: 1, High: 1, Max: 1})
	ns, err2 := respool.New(ctx, numbers{}, respool.Options{Low: 4, High: 4, Max: 4})
	page, err3 := ps.Reserve(0)
	number, err4 := ns.Reserve(0)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		log.Fatal(err)
	}

	fmt.Println(respool.ReserveAll(page.Need(1), number.Need(2)))
	fmt.Println(respool.ReserveAll(number.Need(2), page.Need(1)) != nil, page.Len(), number.Len())

	if err := errors.Join(page.Return(), number.Return(), ps.Close(ctx), ns.Close(ctx)); err != nil {
		log.Fatal(err)
	}
	// Output:
	// <nil>
	// true 1 2
}

// Who may sleep waits for as many as are needed, in line, for as long as ctx says.
func ExamplePool_ReserveWait() {
	pool, err := respool.New(context.Background(), pages{}, respool.Options{Low: 2, High: 2, Max: 2})
	if err != nil {
		log.Fatal(err)
	}
	has, done := make(chan bool), make(chan bool)
	go func() { // somebody else has a page
		page, err := pool.Get()
		if err != nil {
			log.Fatal(err)
		}
		has <- true
		<-done
		if err := pool.Put(page); err != nil {
			log.Print(err)
		}
	}()
	<-has
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	_, err = pool.ReserveWait(ctx, 2)
	fmt.Println(errors.Is(err, context.DeadlineExceeded))

	close(done)
	r, err := pool.ReserveWait(context.Background(), 2)
	fmt.Println(r.Len(), err)
	if err := errors.Join(r.Return(), pool.Close(context.Background())); err != nil {
		log.Fatal(err)
	}
	// Output:
	// true
	// 2 <nil>
}

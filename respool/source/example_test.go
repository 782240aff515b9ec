package source_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"gommu/respool"
	"gommu/respool/source"
)

// A session is expensive to open.
type session struct{ open bool }

func ExampleValues() {
	ctx := context.Background()
	pool, err := respool.New(ctx, source.Values[*session]{
		New:     func() (*session, error) { return &session{open: true}, nil },
		Dispose: func(s *session) error { s.open = false; return nil },
	}, respool.Options{Low: 2})
	if err != nil {
		log.Fatal(err)
	}
	s, err := pool.Get()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(s.open)
	pool.Put(s)
	if err := pool.Close(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println(s.open)
	// Output:
	// true
	// false
}

// The third element cannot be made: a driver's test sees what the driver does then.
func ExampleFaulty() {
	ctx := context.Background()
	faulty := &source.Faulty[int]{Source: source.Values[int]{}}
	faulty.OnAlloc.FailNth(3, nil)
	_, err := respool.New(ctx, faulty, respool.Options{Min: 4})
	fmt.Println(errors.Is(err, source.ErrInjected), faulty.Outstanding(), "leaked")
	// Output: true 0 leaked
}

// A test holds the worker inside its source.
func ExampleFaults() {
	ctx := context.Background()
	faulty := &source.Faulty[int]{Source: source.Values[int]{}}
	release := faulty.OnAlloc.Block()
	done := make(chan error)
	go func() {
		_, err := faulty.Alloc(ctx)
		done <- err
	}()
	release()
	fmt.Println(<-done, faulty.OnAlloc.Stats().Calls)
	// Output: <nil> 1
}

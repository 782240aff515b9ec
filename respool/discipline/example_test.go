package discipline_test

import (
	"context"
	"fmt"
	"log"

	"gommu/respool"
	"gommu/respool/discipline"
)

// pages makes pages of memory, as long as it is told to.
type pages struct{ refuse bool }

func (p *pages) Alloc(ctx context.Context) ([]byte, error) { return make([]byte, 4096), ctx.Err() }
func (p *pages) Free([]byte) error                         { return nil }

func (p *pages) TryAlloc() ([]byte, error) {
	if p.refuse {
		return nil, fmt.Errorf("nothing without reclaim")
	}
	return make([]byte, 4096), nil
}

// One load for all four.
func ExampleDiscipline() {
	ctx := context.Background()
	src := &pages{}
	pool, err := discipline.NewPoolFirst(ctx, src, respool.Options{Low: 8})
	if err != nil {
		log.Fatal(err)
	}
	mempool, err := discipline.NewAllocatorFirst(ctx, src, discipline.AllocatorFirstOptions{Reserve: 8})
	if err != nil {
		log.Fatal(err)
	}
	for _, d := range []discipline.Discipline[[]byte]{pool, mempool} {
		page, err := d.Get()
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(len(page), "bytes,", d.Held(), "held")
		if err := d.Put(page); err != nil {
			log.Fatal(err)
		}
		if err := d.Close(ctx); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// 4096 bytes, 8 held
	// 4096 bytes, 9 held
}

func ExamplePoolFirst() {
	ctx := context.Background()
	pool, err := discipline.NewPoolFirst(ctx, &pages{}, respool.Options{Low: 2, High: 2, Max: 2})
	if err != nil {
		log.Fatal(err)
	}
	r, err := pool.Pool().Reserve(2) // what the other disciplines do not have
	if err != nil {
		log.Fatal(err)
	}
	_, err = pool.Get()
	fmt.Println(err)
	if err := r.Return(); err != nil {
		log.Fatal(err)
	}
	fmt.Println(pool.Close(ctx))
	// Output:
	// respool: get: pool is empty
	// <nil>
}

func ExampleAllocatorFirst() {
	ctx := context.Background()
	src := &pages{}
	mempool, err := discipline.NewAllocatorFirst(ctx, src, discipline.AllocatorFirstOptions{Name: "bio", Reserve: 1})
	if err != nil {
		log.Fatal(err)
	}
	src.refuse = true
	a, err := mempool.Get() // from the reserve
	if err != nil {
		log.Fatal(err)
	}
	_, err = mempool.Get()
	fmt.Println(err)
	b, err := mempool.GetWait(ctx) // by reclaim
	if err != nil {
		log.Fatal(err)
	}
	for _, page := range [][]byte{a, b} { // into the reserve, and freed
		if err := mempool.Put(page); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println(mempool.Held(), "held")
	fmt.Println(mempool.Close(ctx))
	// Output:
	// discipline: get allocator-first "bio": pool is empty
	// 1 held
	// <nil>
}

// Each user keeps its shard.
func ExamplePerCPU() {
	ctx := context.Background()
	stocks, err := discipline.NewPerCPU(ctx, &pages{}, discipline.PerCPUOptions{Shards: 2, Size: 8})
	if err != nil {
		log.Fatal(err)
	}
	mine := stocks.Shard(0)
	page, err := mine.Get()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(stocks.Held(), "held")
	if err := mine.Put(page); err != nil {
		log.Fatal(err)
	}
	fmt.Println(stocks.Close(ctx))
	// Output:
	// 16 held
	// <nil>
}

func ExampleStatic() {
	ctx := context.Background()
	static, err := discipline.NewStatic(ctx, &pages{}, discipline.StaticOptions{Elements: 1})
	if err != nil {
		log.Fatal(err)
	}
	page, err := static.Get()
	if err != nil {
		log.Fatal(err)
	}
	_, err = static.Get()
	fmt.Println(err)
	if err := static.Put(page); err != nil {
		log.Fatal(err)
	}
	fmt.Println(static.Close(ctx))
	// Output:
	// discipline: get static: pool is empty
	// <nil>
}

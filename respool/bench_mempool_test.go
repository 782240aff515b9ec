package respool_test

import (
	"context"
	"testing"

	"gommu/respool"
	"gommu/respool/discipline"
)

func init() {
	peers = append(peers,
		peer{name: "mempool", open: openMempool(freeWords{})},
		peer{name: "mempool-starved", open: openMempool(noWords{})},
	)
}

// freeWords is an allocator that costs nothing, so mempool with it is the fastest that it can be.
type freeWords struct{ words }

func (freeWords) TryAlloc() (uint64, error) { return 1, nil }

// noWords is an allocator that has nothing: each get comes from the reserve.
type noWords struct{ words }

func (noWords) TryAlloc() (uint64, error) { return 0, respool.ErrEmpty }

type mempoolUser struct {
	b *testing.B
	d *discipline.AllocatorFirst[uint64]
}

func openMempool(src discipline.Backing[uint64]) func(*testing.B, int) func(*testing.B) user {
	return func(b *testing.B, size int) func(*testing.B) user {
		d, err := discipline.NewAllocatorFirst(context.Background(), src, discipline.AllocatorFirstOptions{Reserve: size})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { check(b, d.Close(context.Background())) })
		return func(b *testing.B) user { return &mempoolUser{b, d} }
	}
}

func (u *mempoolUser) get() (uint64, bool) { e, err := u.d.Get(); return e, err == nil }
func (u *mempoolUser) put(e uint64)        { check(u.b, u.d.Put(e)) }

func (u *mempoolUser) pairs(n int) {
	for range n {
		e, err := u.d.Get()
		check(u.b, err)
		check(u.b, u.d.Put(e))
	}
}

func (u *mempoolUser) batch(buf []uint64) {
	for i := range buf {
		e, err := u.d.Get()
		check(u.b, err)
		buf[i] = e
	}
	for _, e := range buf {
		check(u.b, u.d.Put(e))
	}
}

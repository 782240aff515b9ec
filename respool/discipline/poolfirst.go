package discipline

import (
	"context"

	"gommu/respool"
)

// PoolFirst is a respool.Pool as a Discipline: a get takes from the pool, always. Make one with
// NewPoolFirst. Its errors are those of the pool.
type PoolFirst[T any] struct {
	pool *respool.Pool[T]
}

// NewPoolFirst makes a pool over src. It returns what respool.New does.
func NewPoolFirst[T any](ctx context.Context, src respool.Source[T], opts respool.Options) (*PoolFirst[T], error) {
	p, err := respool.New(ctx, src, opts)
	if err != nil {
		return nil, err
	}
	return &PoolFirst[T]{p}, nil
}

// Pool is the pool, for what Discipline does not have.
func (p *PoolFirst[T]) Pool() *respool.Pool[T] { return p.pool }

// Get is respool.Pool.Get.
func (p *PoolFirst[T]) Get() (T, error) { return p.pool.Get() }

// GetWait is respool.Pool.GetWait.
func (p *PoolFirst[T]) GetWait(ctx context.Context) (T, error) { return p.pool.GetWait(ctx) }

// Put is respool.Pool.Put.
func (p *PoolFirst[T]) Put(e T) error { return p.pool.Put(e) }

// Held is the pool's elements: free, in use, in caches and in reservations.
func (p *PoolFirst[T]) Held() int {
	s := p.pool.Stats()
	return s.Free + s.InUse + s.Cached + s.Reserved
}

// Close is respool.Pool.Close.
func (p *PoolFirst[T]) Close(ctx context.Context) error { return p.pool.Close(ctx) }

package respool

import (
	"context"
	"errors"
	"sync"
)

// ErrEmpty is what Get returns from a pool that is dry.
var ErrEmpty = errors.New("pool is empty")

// Options configure a Pool.
type Options struct {
	Name                string
	Min, Low, High, Max int
}

// Stats are counters of a pool.
type Stats struct {
	Free, InUse              int
	Gets, Puts, Empty        uint64
	Grown, Shrunk            uint64
	SourceErrors, FreeErrors uint64
}

// Pool is a pool-first pool. (Contract stub, replaced by the lock-free one.)
type Pool[T any] struct {
	mu   sync.Mutex
	src  Source[T]
	free []T
	st   Stats
}

func New[T any](ctx context.Context, src Source[T], opts Options) (*Pool[T], error) {
	p := &Pool[T]{src: src}
	for range max(opts.Low, opts.Min, 8) {
		e, err := src.Alloc(ctx)
		if err != nil {
			return nil, err
		}
		p.free = append(p.free, e)
	}
	return p, nil
}

func (p *Pool[T]) Get() (T, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.st.Gets++
	if n := len(p.free); n > 0 {
		e := p.free[n-1]
		p.free = p.free[:n-1]
		p.st.InUse++
		return e, nil
	}
	var zero T
	p.st.Empty++
	return zero, ErrEmpty
}

func (p *Pool[T]) Put(e T) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.st.Puts++
	p.st.InUse--
	p.free = append(p.free, e)
	return nil
}

func (p *Pool[T]) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.st
	s.Free = len(p.free)
	return s
}

func (p *Pool[T]) Close(ctx context.Context) error {
	for _, e := range p.free {
		p.src.Free(e)
	}
	return nil
}

package discipline

import (
	"context"
	"time"
)

const (
	firstBackoff = 10 * time.Millisecond
	maxBackoff   = time.Second
)

// A filler is the background goroutine of a PerCPU. To the gate it is a call under way.
type filler[T any] struct {
	p       *PerCPU[T]
	filling []bool        // by stock: it fell below low and has not been full since
	backoff time.Duration // 0 while the source does not fail
	retryAt time.Time
}

func (f *filler[T]) run(ctx context.Context) {
	defer f.p.leave()
	retry := time.NewTimer(0)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.p.wake:
		case <-retry.C:
		}
		f.fill(ctx)
		f.free(ctx)
		if wait := time.Until(f.retryAt); wait > 0 {
			retry.Reset(wait)
		}
	}
}

// fill gives elements to the stocks that want some, to the emptiest first, until none does, the
// source fails, or ctx ends.
func (f *filler[T]) fill(ctx context.Context) {
	for ctx.Err() == nil {
		s := f.neediest()
		if s == nil {
			return
		}
		e, _, ok := f.p.surplus.take()
		if !ok {
			if e, ok = f.alloc(ctx); !ok {
				return
			}
		}
		f.p.store(s, e)
	}
}

// neediest is the emptiest stock of those being filled, or nil.
func (f *filler[T]) neediest() *stock[T] {
	var neediest *stock[T]
	least := f.p.size
	for i := range f.p.stocks {
		s := &f.p.stocks[i]
		n := s.len()
		f.filling[i] = n < f.p.low || f.filling[i] && n < f.p.size
		if f.filling[i] && n < least {
			neediest, least = s, n
		}
	}
	return neediest
}

// alloc asks the source, unless it failed a short while ago.
func (f *filler[T]) alloc(ctx context.Context) (e T, ok bool) {
	if time.Now().Before(f.retryAt) {
		return e, false
	}
	e, err := f.p.src.Alloc(ctx)
	if err != nil {
		f.backoff = min(max(2*f.backoff, firstBackoff), maxBackoff)
		f.retryAt = time.Now().Add(f.backoff)
		return e, false
	}
	f.backoff, f.retryAt = 0, time.Time{}
	return e, true
}

// free frees what no stock wants.
func (f *filler[T]) free(ctx context.Context) {
	for ctx.Err() == nil {
		e, _, ok := f.p.surplus.take()
		if !ok {
			return
		}
		f.p.gate.lost.add(f.p.src.Free(e))
	}
}

package scenario

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// pageSize is the bytes of a page.
const pageSize = 4096

// A page is the element of all scenarios.
type page struct{ bytes [pageSize]byte }

var (
	errNoPage  = errors.New("no page is left")
	errRemoved = errors.New("the source was removed")
	errNoOwner = errors.New("a page was freed that is not out")
)

// A memory is the allocator behind the pools of a run: a number of pages. Unless it is slow it has nothing to
// reclaim, so those who may wait find what those find who may not. It is a discipline.Backing.
type memory struct {
	calls   atomic.Int64 // of Alloc and TryAlloc
	removed atomic.Bool  // every call fails
	slow    atomic.Int64 // ticks that Alloc takes; TryAlloc has nothing to give then

	mu   sync.Mutex
	left int
	out  map[*page]bool
}

// memory makes one, and checks in the end that all its pages are back.
func (r *run) memory(pages int) *memory {
	m := &memory{left: pages, out: map[*page]bool{}}
	r.later(func(context.Context) error {
		m.mu.Lock()
		defer m.mu.Unlock()
		if n := len(m.out); n > 0 {
			return fmt.Errorf("%d pages were not freed", n)
		}
		return nil
	})
	return m
}

// tick is the time that slow memory and its users share: all are as late as the machine is loaded.
const tick = time.Millisecond

// sleep takes n ticks one by one.
func sleep(ctx context.Context, n int64) error {
	for range n {
		select {
		case <-time.After(tick):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return ctx.Err()
}

// Alloc is the allocator with reclaim.
func (m *memory) Alloc(ctx context.Context) (*page, error) {
	m.calls.Add(1)
	if err := sleep(ctx, m.slow.Load()); err != nil {
		return nil, err
	}
	return m.take()
}

// TryAlloc is the allocator without.
func (m *memory) TryAlloc() (*page, error) {
	m.calls.Add(1)
	if m.slow.Load() > 0 {
		return nil, errNoPage
	}
	return m.take()
}

func (m *memory) take() (*page, error) {
	if m.removed.Load() {
		return nil, errRemoved
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.left == 0 {
		return nil, errNoPage
	}
	m.left--
	p := new(page)
	m.out[p] = true
	return p, nil
}

func (m *memory) Free(p *page) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.out[p] {
		return errNoOwner
	}
	delete(m.out, p)
	m.left++
	return nil
}

// ElemSize makes it a respool.Sizer.
func (m *memory) ElemSize() int64 { return pageSize }

// free is how many pages are left.
func (m *memory) free() int { m.mu.Lock(); defer m.mu.Unlock(); return m.left }

// bytes is how much is allocated.
func (m *memory) bytes() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.out) * pageSize
}

package devmem

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"gommu/pagetable"
	"gommu/respool/source"
)

// Memory is hugepages whose bus addresses are known. It is zero when it is new.
type Memory struct {
	sys   system
	pages *source.HugePages

	mu     sync.Mutex
	blocks []source.Block // nil once closed
	segs   []pagetable.Segment
}

// NewMemory takes at least size bytes in hugepages of 2 MiB, one at least, and asks the kernel where
// they lie. Errors: those of package source (its ErrNoHugePages says how to reserve
// more), ErrNoBusAddress, the context's.
func NewMemory(ctx context.Context, size int) (*Memory, error) {
	h, err := source.NewHugePages(source.HugePagesOptions{})
	if err != nil {
		return nil, &OpError{Op: "new memory", Err: err}
	}
	return newMemory(ctx, kernel, h, size)
}

func newMemory(ctx context.Context, sys system, h *source.HugePages, size int) (*Memory, error) {
	m := &Memory{sys: sys, pages: h}
	for n := 0; n < max(size, 1); {
		b, err := h.Alloc(ctx)
		if err != nil {
			return nil, &OpError{Op: "new memory", Err: errors.Join(err, m.Close())}
		}
		m.blocks = append(m.blocks, b)
		n += len(h.Bytes(b))
	}
	segs, err := m.locate()
	if err != nil {
		return nil, &OpError{
			Op: "new memory", Err: errors.Join(err, m.Close()),
			Remedy: "run as root (CAP_SYS_ADMIN): to others /proc/self/pagemap shows no addresses",
		}
	}
	m.segs = segs
	return m, nil
}

// locate asks for the bus addresses of all blocks, in order of bus address.
func (m *Memory) locate() ([]pagetable.Segment, error) {
	var segs []pagetable.Segment
	for _, b := range m.blocks {
		s, err := m.sys.locate(m.pages.Bytes(b))
		if err != nil {
			return nil, err
		}
		segs = append(segs, s...)
	}
	slices.SortFunc(segs, func(a, b pagetable.Segment) int {
		if a.Bus < b.Bus {
			return -1
		}
		return 1
	})
	return segs, nil
}

// Segments are the memory in order of bus address, one for each hugepage; nil once the
// memory is closed.
func (m *Memory) Segments() []pagetable.Segment {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.segs)
}

// Check asks the kernel once more where the memory lies, and returns ErrMoved if that
// is not where it was.
func (m *Memory) Check() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	fail := func(err error) error { return &OpError{Op: "check memory", Err: err} }
	if m.segs == nil {
		return fail(ErrClosed)
	}
	now, err := m.locate()
	if err != nil {
		return fail(err)
	}
	if !slices.EqualFunc(m.segs, now, func(a, b pagetable.Segment) bool {
		return a.Bus == b.Bus && &a.Mem[0] == &b.Mem[0] && len(a.Mem) == len(b.Mem)
	}) {
		return fail(fmt.Errorf("%w: stop the devices", ErrMoved))
	}
	return nil
}

// Close gives the hugepages back. The unit and the devices must not reach them any
// more. Twice is harmless.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var errs []error
	for _, b := range m.blocks {
		errs = append(errs, m.pages.Free(b))
	}
	m.blocks, m.segs = nil, nil
	if err := errors.Join(append(errs, m.pages.Close())...); err != nil {
		return &OpError{Op: "close memory", Err: err}
	}
	return nil
}

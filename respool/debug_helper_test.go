//go:build debug

package respool

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
)

// A hearer keeps reports.
type hearer struct {
	mu    sync.Mutex
	heard []Report
}

func (h *hearer) hear(r Report) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.heard = append(h.heard, r)
}

// take returns what was heard since the last call.
func (h *hearer) take() []Report {
	h.mu.Lock()
	defer h.mu.Unlock()
	rs := h.heard
	h.heard = nil
	return rs
}

// one is the only report since the last call. Its stacks pass through these functions, one each.
func (h *hearer) one(t testing.TB, kind Kind, through ...string) Report {
	t.Helper()
	rs := h.take()
	if len(rs) != 1 {
		t.Fatalf("%d reports, want one, %v:\n%v", len(rs), kind, rs)
	}
	wantReport(t, rs[0], kind, through...)
	return rs[0]
}

func wantReport(t testing.TB, r Report, kind Kind, through ...string) {
	t.Helper()
	if r.Kind != kind || len(r.Stacks) != len(through) {
		t.Fatalf("want %v with %d stacks:\n%v", kind, len(through), r)
	}
	for i, f := range through {
		if s := r.Stacks[i]; !strings.Contains(s.Trace, "respool."+f) || s.Goroutine == 0 {
			t.Errorf("stack %d, %q, is not through %s:\n%v", i, s.What, f, r)
		}
	}
}

// quiet checks that nothing was heard.
func (h *hearer) quiet(t testing.TB) {
	t.Helper()
	for _, r := range h.take() {
		t.Errorf("report: %v", r)
	}
}

// A block is an element that can be poisoned.
type block [64]byte

// blocks is a source of blocks whose contents survive in the pool.
type blocks struct {
	mu       sync.Mutex
	poisoned map[*block]block // with what was in them
	live     int
}

func (s *blocks) Alloc(context.Context) (*block, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live++
	return new(block), nil
}

func (s *blocks) Free(b *block) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live--
	if _, is := s.poisoned[b]; is {
		return errors.New("freed with poison in it")
	}
	return nil
}

func (s *blocks) Poison(b *block) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.poisoned == nil {
		s.poisoned = map[*block]block{}
	}
	if _, is := s.poisoned[b]; is {
		panic("poisoned twice")
	}
	s.poisoned[b] = *b
	*b = poison
}

func (s *blocks) Check(b *block) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	was, is := s.poisoned[b]
	if !is {
		panic("checked without poison")
	}
	delete(s.poisoned, b)
	found := *b
	*b = was
	for i := range found {
		if found[i] != poison[i] {
			return fmt.Errorf("byte %d", i)
		}
	}
	return nil
}

var poison = block(slices.Repeat([]byte{0xa5}, len(block{})))

func newPool[T any](t testing.TB, src Source[T], o Options) *Pool[T] {
	t.Helper()
	p, err := New(context.Background(), src, o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

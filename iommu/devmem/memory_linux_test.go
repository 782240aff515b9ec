package devmem

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"testing"

	"gommu/internal/held"
	"gommu/pagetable"
	"gommu/respool/source"
)

// where says the bus address of a page of this process.
type where func(page uint64) uint64

func (w where) system() system {
	sys := kernel
	sys.pagemap = func(entries []byte, off int64) error {
		for i := 0; i < len(entries); i += 8 {
			binary.NativeEndian.PutUint64(entries[i:], pagePresent|w(uint64(off+int64(i))/8)/uint64(os.Getpagesize()))
		}
		return nil
	}
	return sys
}

// fallback is hugepages, or where there are none memory that passes for them.
func fallback(t *testing.T, limit int) *source.HugePages {
	t.Helper()
	h, err := source.NewHugePages(source.HugePagesOptions{Fallback: true, Limit: limit})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

const hugePage = 2 << 20

func TestMemory(t *testing.T) {
	before := held.Now(t)
	shift := uint64(1 << 40)
	m, err := newMemory(t.Context(), where(func(p uint64) uint64 { return p*4096&(1<<40-1) | shift }).system(), fallback(t, 0), hugePage+1)
	if err != nil {
		t.Fatal(err)
	}
	segs := m.Segments()
	total := 0
	for i, s := range segs {
		if i > 0 && s.Bus <= segs[i-1].Bus || s.Bus>>40 != 1 {
			t.Errorf("segment %d is at bus %#x", i, s.Bus)
		}
		for _, b := range s.Mem {
			if b != 0 {
				t.Fatal("new memory is not zero")
			}
		}
		total += len(s.Mem)
	}
	if total != 2*hugePage {
		t.Errorf("%d bytes in %d segments, want two hugepages", total, len(segs))
	}
	if _, err := pagetable.NewMemory(segs...); err != nil {
		t.Error(err)
	}
	if err := m.Check(); err != nil {
		t.Error(err)
	}
	shift = 1<<40 | 1<<45
	expect(t, "memory elsewhere", m.Check(), ErrMoved)
	if err := errors.Join(m.Close(), m.Close()); err != nil {
		t.Error(err)
	}
	if m.Segments() != nil {
		t.Error("closed memory has segments")
	}
	expect(t, "closed memory", m.Check(), ErrClosed)
	held.Check(t, before)
}

// TestMemoryScattered: pages that do not follow each other on the bus become segments of
// their own, and each byte is where its segment says.
func TestMemoryScattered(t *testing.T) {
	// Pairs of pages in backward order.
	backward := where(func(p uint64) uint64 { return (1<<36 - p/2*2 + p%2) * 4096 })
	m, err := newMemory(t.Context(), backward.system(), fallback(t, 0), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	segs := m.Segments()
	if len(segs) != hugePage/8192 {
		t.Fatalf("%d segments, want %d", len(segs), hugePage/8192)
	}
	for i, s := range segs {
		if len(s.Mem) != 8192 || i > 0 && s.Bus != segs[i-1].Bus+8192 {
			t.Fatalf("segment %d: %d bytes at %#x", i, len(s.Mem), s.Bus)
		}
	}
	if mem, err := pagetable.NewMemory(segs...); err != nil || !mem.Contains(pagetable.Frame{Bus: segs[7].Bus + 4096}) {
		t.Errorf("no memory of it: %v", err)
	}
}

func TestMemoryRefused(t *testing.T) {
	before := held.Now(t)
	hidden := where(func(uint64) uint64 { return 0 }).system()
	absent := kernel
	absent.pagemap = func(entries []byte, _ int64) error { clear(entries); return nil }
	short := kernel
	short.pagemap = func([]byte, int64) error { return io.ErrUnexpectedEOF }
	plain := where(func(p uint64) uint64 { return p * 4096 }).system()
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		sys   system
		ctx   context.Context
		limit int
		cause error
		text  string
	}{
		"hidden":  {hidden, t.Context(), 0, ErrNoBusAddress, "root"},
		"absent":  {absent, t.Context(), 0, ErrNoBusAddress, "root"},
		"short":   {short, t.Context(), 0, io.ErrUnexpectedEOF, ""},
		"limit":   {plain, t.Context(), hugePage, source.ErrNoMemory, ""}, // the second page
		"context": {plain, over, 0, context.Canceled, ""},
	} {
		h := fallback(t, c.limit)
		m, err := newMemory(c.ctx, c.sys, h, 2*hugePage)
		if m != nil {
			t.Errorf("%s: memory", name)
		}
		expect(t, name, err, c.cause, c.text)
		if s := h.Stats(); s.Out != 0 || s.Mapped != 0 {
			t.Errorf("%s: %+v is left", name, s)
		}
	}
	held.Check(t, before)
}

// TestPagemap reads the kernel's own, which says that a page is present, and to root where.
func TestPagemap(t *testing.T) {
	m, err := newMemory(t.Context(), kernel, fallback(t, 0), 1)
	if errors.Is(err, ErrNoBusAddress) {
		t.Skip("this process may not see physical addresses: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(m.Check(), m.Close()); err != nil && !errors.Is(err, ErrMoved) { // ordinary memory may move
		t.Error(err)
	}
}

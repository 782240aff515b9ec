package source

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"

	"gommu/respool"
)

var (
	_ respool.Source[Block] = (*Pages)(nil)
	_ respool.Source[Block] = (*HugePages)(nil)
	_ respool.Source[int]   = (*Faulty[int])(nil)
	_ respool.Source[int]   = Values[int]{}

	page = os.Getpagesize()
	ctx  = context.Background()
)

func openPages(t fataler, p *probe, o PagesOptions) *Pages {
	t.Helper()
	m, err := newPages(o, p.system())
	if err != nil {
		t.Fatalf("newPages: %v", err)
	}
	return m
}

// Blocks of all sizes are zero, apart, aligned, within a page if they can be, and
// unmapped with the last of their chunk.
func TestPagesBlocks(t *testing.T) {
	for _, c := range []struct{ size, want, stride int }{
		{0, page, page}, {1, 1, 64}, {64, 64, 64}, {65, 65, 128}, {100, 100, 128}, {page/2 + 1, page/2 + 1, page},
		{page, page, page}, {page + 1, page + 1, 2 * page}, {3 * page, 3 * page, 3 * page},
	} {
		noLeak(t)
		m := openPages(t, &probe{}, PagesOptions{Size: c.size, Chunk: 2 * page})
		perChunk := max(2*page, c.stride) / c.stride
		before := mappings(t)
		var bs []Block
		for i := range 2*perChunk + 1 {
			b := alloc(t, m)
			mem := m.Bytes(b)
			if len(mem) != c.want || cap(mem) != c.want {
				t.Fatalf("size %d: %d bytes, room for %d", c.size, len(mem), cap(mem))
			}
			if at, p := address(mem), uintptr(page); at%min(uintptr(c.stride), p) != 0 || c.want <= page && at/p != (at+uintptr(c.want)-1)/p {
				t.Fatalf("size %d: at %#x", c.size, at)
			}
			paint(t, mem, byte(i+1))
			bs = append(bs, b)
		}
		for i, b := range bs {
			painted(t, m.Bytes(b), byte(i+1))
		}
		if n := mappings(t) - before; n != 3 {
			t.Errorf("size %d: %d mappings for two chunks and one block", c.size, n)
		}
		free(t, m, bs[perChunk:]...)
		if n := mappings(t) - before; n != 1 {
			t.Errorf("size %d: %d mappings for one chunk", c.size, n)
		}
		free(t, m, bs[:perChunk]...)
		end(t, m)
	}
}

// A place that was used is zero for its next block, and the old block stays refused.
func TestPagesRecycle(t *testing.T) {
	noLeak(t)
	m := openPages(t, &probe{}, PagesOptions{})
	keep, old := alloc(t, m), alloc(t, m)
	was := m.Bytes(old)
	paint(t, was, 0xff)
	free(t, m, old)
	again := alloc(t, m)
	if &m.Bytes(again)[0] != &was[0] {
		t.Fatal("the place was not used again: this test shows nothing")
	}
	paint(t, m.Bytes(again), 1)
	if err := m.Free(old); !errors.Is(err, ErrForeign) {
		t.Errorf("Free of a block whose memory has a new owner: %v", err)
	}
	if m.Bytes(old) != nil {
		t.Error("Bytes of a block that is back")
	}
	free(t, m, again, keep)
	end(t, m)
}

func TestPagesForeign(t *testing.T) {
	noLeak(t)
	m, other := openPages(t, &probe{}, PagesOptions{}), openPages(t, &probe{}, PagesOptions{})
	mine, twice, theirs := alloc(t, m), alloc(t, m), alloc(t, other)
	free(t, m, twice)
	before := m.Stats()
	for name, b := range map[string]Block{
		"zero": {}, "given back": twice, "of another source": theirs,
		"no such chunk": {mine.serial, mine.chunk + 1, 0}, "no such place": {mine.serial, mine.chunk, 1 << 31},
		"never handed out": {0, mine.chunk, mine.index + 2},
	} {
		err := m.Free(b)
		var op *OpError
		if !errors.Is(err, ErrForeign) || !errors.As(err, &op) || op.Op != "free" || op.Size != page {
			t.Errorf("%s: Free: %v", name, err)
		}
		if m.Bytes(b) != nil {
			t.Errorf("%s: has bytes", name)
		}
	}
	if m.Stats() != before {
		t.Errorf("refused blocks changed %+v to %+v", before, m.Stats())
	}
	free(t, m, mine)
	free(t, other, theirs)
	if err := m.Free(mine); !errors.Is(err, ErrForeign) {
		t.Errorf("Free into an unmapped chunk: %v", err)
	}
	end(t, m)
	end(t, other)
}

func TestPagesLimit(t *testing.T) {
	noLeak(t)
	for _, c := range []struct{ size, limit, want int }{
		{page, 5*page + 1, 5}, {page, page, 1}, {page / 2, 3 * page, 6}, {3 * page, 7 * page, 2},
	} {
		m := openPages(t, &probe{}, PagesOptions{Size: c.size, Chunk: 2 * page, Limit: c.limit})
		var bs []Block
		for range c.want {
			bs = append(bs, alloc(t, m))
		}
		for range 2 {
			if _, err := m.Alloc(ctx); !errors.Is(err, ErrNoMemory) || !strings.Contains(err.Error(), "raise Limit") {
				t.Fatalf("size %d, limit %d: Alloc of block %d: %v", c.size, c.limit, c.want+1, err)
			}
		}
		if s := m.Stats(); s.Out != c.want || s.Mapped > c.limit {
			t.Errorf("limit %d: %+v", c.limit, s)
		}
		free(t, m, bs[0])
		bs[0] = alloc(t, m)
		free(t, m, bs...)
		end(t, m)
	}
}

func TestPagesClose(t *testing.T) {
	noLeak(t)
	m := openPages(t, &probe{}, PagesOptions{})
	b := alloc(t, m)
	if err := m.Close(); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), ": 1:") {
		t.Fatalf("Close with a block out: %v", err)
	}
	free(t, m, b, alloc(t, m)) // a refused Close changes nothing
	for range 2 {
		end(t, m)
	}
	if _, err := m.Alloc(ctx); !errors.Is(err, ErrClosed) {
		t.Errorf("Alloc after Close: %v", err)
	}
	if err := m.Free(b); !errors.Is(err, ErrForeign) {
		t.Errorf("Free after Close: %v", err)
	}
}

func TestPagesContext(t *testing.T) {
	p := &probe{}
	m := openPages(t, p, PagesOptions{})
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := m.Alloc(ended); err != context.Canceled {
		t.Errorf("Alloc: %v", err)
	}
	if p.calls != 0 {
		t.Errorf("%d system calls for a context that had ended", p.calls)
	}
	end(t, m)
}

func TestPagesBadOptions(t *testing.T) {
	for _, o := range []PagesOptions{
		{Size: -1}, {Chunk: -1}, {Limit: -1}, {Size: maxBlock + 1}, {Chunk: maxChunk + 1}, {Limit: page - 1}, {Size: page + 1, Limit: 2*page - 1},
	} {
		if m, err := NewPages(o); m != nil || !errors.Is(err, ErrBadOptions) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	if _, err := NewPages(PagesOptions{Size: maxBlock, Chunk: maxBlock}); err != nil {
		t.Errorf("a chunk as large as its only block: %v", err)
	}
}

func TestBytesAllocatesNothing(t *testing.T) {
	m := openPages(t, &probe{}, PagesOptions{})
	b := alloc(t, m)
	if n := testing.AllocsPerRun(100, func() { m.Bytes(b)[0]++ }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	free(t, m, b)
	end(t, m)
}

// Owners at once keep their own bytes, with a limit that makes some Allocs fail.
func TestPagesConcurrent(t *testing.T) {
	noLeak(t)
	m := openPages(t, &probe{}, PagesOptions{Size: 512, Chunk: page, Limit: 6 * page})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for round := range 300 {
				var bs []Block
				for range 1 + round%9 {
					b, err := m.Alloc(ctx)
					if errors.Is(err, ErrNoMemory) {
						break
					}
					if err != nil {
						t.Error(err)
						return
					}
					for i, v := range m.Bytes(b) {
						if v != 0 {
							t.Errorf("byte %d is %#x", i, v)
						}
						m.Bytes(b)[i] = byte(g + 1)
					}
					bs = append(bs, b)
				}
				for _, b := range bs {
					for i, v := range m.Bytes(b) {
						if v != byte(g+1) {
							t.Errorf("byte %d of goroutine %d is of %d", i, g+1, v)
						}
					}
					if err := m.Free(b); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	end(t, m)
}

// A pool in front grows from the source, and its Close gives everything back.
func TestPagesPool(t *testing.T) {
	noLeak(t)
	m := openPages(t, &probe{}, PagesOptions{Chunk: 4 * page, Limit: 16 * page})
	pool, err := respool.New(ctx, m, respool.Options{Low: 4, High: 8, Max: 16})
	if err != nil {
		t.Fatal(err)
	}
	for range 200 {
		b, err := pool.Get()
		if err != nil {
			t.Fatal(err)
		}
		m.Bytes(b)[0]++
		if err := pool.Put(b); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Close(); !errors.Is(err, ErrInUse) {
		t.Errorf("Close before the pool's: %v", err)
	}
	if err := pool.Close(ctx); err != nil {
		t.Fatal(err)
	}
	end(t, m)

	small, err := NewPages(PagesOptions{Limit: 2 * page})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := respool.New(ctx, small, respool.Options{Min: 3}); !errors.Is(err, respool.ErrNoMemory) || !errors.Is(err, ErrNoMemory) {
		t.Errorf("a pool above the limit: %v", err)
	}
	end(t, small)
}

// The pool counts its memory by what a block takes, also through a Faulty.
func TestElemSize(t *testing.T) {
	p, err := NewPages(PagesOptions{Size: 100})
	if err != nil {
		t.Fatal(err)
	}
	h, err := NewHugePages(HugePagesOptions{Size: 4096})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		src  respool.Source[Block]
		want int64
	}{
		"pages":     {p, 128},
		"hugepages": {h, 4096},
		"faulty":    {&Faulty[Block]{Source: p}, 128},
		"unknown":   {&Faulty[Block]{Source: Values[Block]{}}, 0},
	} {
		if s, ok := c.src.(respool.Sizer); !ok || s.ElemSize() != c.want {
			t.Errorf("%s: not %d", name, c.want)
		}
	}
}

package iova

import (
	"context"
	"fmt"
	"math/bits"
	"math/rand/v2"
)

// A carver is the source of a class of windows smaller than a chunk. It cuts chunks into windows
// and takes a new one only when none of its chunks has a window left, so it never has more chunks than the windows that
// existed at a time fill. It always cuts the chunk that has the fewest left, so that the others may become whole again, and
// gives back a chunk that is.
type carver struct {
	s     *Space
	class int

	// Guarded by s.mu.
	chunks []chunk
	spare  []uint32 // indices of chunks that are not in use
	few    []uint32 // by how many windows are left: the first of the chunks that have as many, and one more than its index
	some   bitset   // which of few there are
	inUse  int
}

// A chunk is 2 MiB that are cut into windows of one class.
type chunk struct {
	claim
	left       bitset // windows that the pool does not have
	n          int    // how many these are
	prev, next uint32 // of those that have as many left; one more than the index
}

// chunkWindows is the most windows of a chunk.
const chunkWindows = 1 << chunkClass

// A bitset has a bit for each number up to chunkWindows.
type bitset [chunkWindows/64 + 1]uint64

func (b *bitset) set(i int)   { b[i/64] |= 1 << (i % 64) }
func (b *bitset) clear(i int) { b[i/64] &^= 1 << (i % 64) }

// from is the first number of the set that is not less than i, or -1.
func (b *bitset) from(i int) int {
	w := b[i/64] >> (i % 64)
	if w != 0 {
		return i + bits.TrailingZeros64(w)
	}
	for k := i/64 + 1; k < len(b); k++ {
		if b[k] != 0 {
			return 64*k + bits.TrailingZeros64(b[k])
		}
	}
	return -1
}

func newCarver(s *Space, class int) *carver {
	return &carver{s: s, class: class, few: make([]uint32, 1<<(chunkClass-class)+1)}
}

// windows is how many a chunk has.
func (c *carver) windows() int { return 1 << (chunkClass - c.class) }

// Alloc makes a window, for the class's pool.
func (c *carver) Alloc(ctx context.Context) (uint32, error) {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	n, ok := s.numbers.take()
	if !ok {
		return 0, ErrNumbers
	}
	if c.some.from(1) < 0 {
		if err := c.more(ctx); err != nil {
			s.numbers.put(n)
			return 0, err
		}
	}
	i := c.few[c.some.from(1)] - 1
	page := c.cut(i)
	r := &s.table[n]
	r.start = page << pageBits
	r.where = uint32(c.class) | i<<kindBits
	return n, nil
}

// more adds a chunk. It lets go of s.mu meanwhile.
func (c *carver) more(ctx context.Context) error {
	s := c.s
	s.mu.Unlock()
	const pages = 1 << chunkClass
	got, err := s.claim(ctx, want{pages: pages, body: pages, align: pages, below: top}, true, nil)
	s.mu.Lock()
	if err != nil {
		return fmt.Errorf("a chunk of 2 MiB: %w", err)
	}
	var i uint32
	if k := len(c.spare) - 1; k >= 0 {
		i = c.spare[k]
		c.spare = c.spare[:k]
	} else {
		i = uint32(len(c.chunks))
		c.chunks = append(c.chunks, chunk{})
	}
	h := &c.chunks[i]
	*h = chunk{claim: got, n: c.windows()}
	for w := range h.n {
		h.left.set(w)
	}
	c.inUse++
	c.link(i)
	return nil
}

// cut takes a window of chunk i, which has one: the next in order, or with Options.Random any.
func (c *carver) cut(i uint32) (page uint64) {
	c.unlink(i)
	h := &c.chunks[i]
	w := h.pick(c.windows(), c.s.dice)
	h.left.clear(w)
	h.n--
	c.link(i)
	return h.from + uint64(w)<<c.class
}

// pick is a window that is left, one of so many.
func (h *chunk) pick(of int, dice *rand.Rand) int {
	if dice != nil {
		if w := h.left.from(dice.IntN(of)); w >= 0 {
			return w
		}
	}
	return h.left.from(0)
}

// Free takes a window back from the class's pool.
func (c *carver) Free(n uint32) error {
	s := c.s
	s.mu.Lock()
	r := &s.table[n]
	i := r.where >> kindBits
	s.numbers.put(n)
	c.unlink(i)
	h := &c.chunks[i]
	h.left.set(int((r.start>>pageBits - h.from) >> c.class))
	if h.n++; h.n < c.windows() {
		c.link(i)
		s.mu.Unlock()
		return nil
	}
	whole := h.claim
	c.spare = append(c.spare, i)
	c.inUse--
	s.mu.Unlock()
	s.release(whole)
	return nil
}

// link puts chunk i to those with as many windows left, first.
func (c *carver) link(i uint32) {
	h := &c.chunks[i]
	h.prev, h.next = 0, c.few[h.n]
	if h.next != 0 {
		c.chunks[h.next-1].prev = i + 1
	}
	c.few[h.n] = i + 1
	c.some.set(h.n)
}

// unlink is the reverse of link.
func (c *carver) unlink(i uint32) {
	h := &c.chunks[i]
	if h.next != 0 {
		c.chunks[h.next-1].prev = h.prev
	}
	if h.prev != 0 {
		c.chunks[h.prev-1].next = h.next
		return
	}
	if c.few[h.n] = h.next; h.next == 0 {
		c.some.clear(h.n)
	}
}

// A taker is the source of a class of windows of a chunk and more, each a claim of its own.
type taker struct {
	s     *Space
	class int
}

// Alloc makes a window, for the class's pool.
func (t taker) Alloc(ctx context.Context) (uint32, error) {
	pages := uint64(1) << t.class
	return t.s.single(ctx, want{pages: pages, body: pages - t.s.guard>>pageBits, align: pages, below: top}, nil, uint32(t.class))
}

// Free takes a window back from the class's pool.
func (t taker) Free(n uint32) error {
	t.s.endSingle(n)
	return nil
}

// top is above all pages.
const top = 1 << (64 - pageBits)

// single makes a window that is a claim of its own.
func (s *Space) single(ctx context.Context, w want, at *uint64, kind uint32) (uint32, error) {
	s.mu.Lock()
	n, ok := s.numbers.take()
	s.mu.Unlock()
	if !ok {
		return 0, ErrNumbers
	}
	c, err := s.claim(ctx, w, false, at)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.numbers.put(n)
		return 0, err
	}
	s.singles[n] = c
	s.table[n].start = c.from << pageBits
	s.table[n].where = kind
	return n, nil
}

// endSingle ends window n, which single made.
func (s *Space) endSingle(n uint32) {
	s.mu.Lock()
	c := s.singles[n]
	delete(s.singles, n)
	s.numbers.put(n)
	s.mu.Unlock()
	s.release(c)
}

package source

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
)

const (
	minBlock = 64              // a cache line, in bytes
	maxBlock = math.MaxInt / 4 // so that sums of sizes do not overflow
	maxChunk = 1 << 30         // bytes; also bounds the places of a chunk to what a Block's index holds
)

// serials numbers all blocks ever handed out. 0 is none.
var serials atomic.Uint64

// An arena cuts mapped chunks into blocks. It is what Pages and HugePages share.
type arena struct {
	name   string
	size   int // of a block as the user sees it, bytes
	stride int // from one block to the next
	unit   int // a chunk is a multiple of it, and it of the stride
	chunk  int // bytes mapped at a time
	limit  int // of bytes mapped, or 0
	sys    system
	grow   func(n int) (*chunk, error) // maps n bytes, zero and present

	// table is replaced, never changed, under mu: Bytes reads it without.
	table atomic.Pointer[[]*chunk]

	mu     sync.Mutex
	first  int // no slot of the table before it has room
	stats  MemoryStats
	closed bool

	poison poison
}

// A chunk is memory that is mapped and unmapped as a whole.
type chunk struct {
	raw      []byte // as mmap returned it
	mem      []byte // the part that is cut into blocks
	ordinary bool   // not the hugepage that was asked for

	out     []atomic.Uint64 // the serial number of each place's block, 0 while it is free
	n       int             // places that are not free
	fresh   int             // this place and the following were never used: their memory is zero
	recycle []uint32        // places before fresh that are free
}

func (a *arena) init() { a.table.Store(new([]*chunk)) }

// Alloc returns a block that is zero. It fails with ErrNoMemory at the limit or when the
// kernel gives no more, with ErrClosed after Close, and with ctx.Err().
func (a *arena) Alloc(ctx context.Context) (Block, error) {
	if err := ctx.Err(); err != nil {
		return Block{}, err
	}
	b, used, err := a.take()
	if err != nil {
		return Block{}, a.fail("alloc", err)
	}
	if used {
		clear(a.Bytes(b))
	}
	return b, nil
}

// take finds a place for a block and tells whether it was used before.
func (a *arena) take() (b Block, used bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return Block{}, false, ErrClosed
	}
	table := *a.table.Load()
	for a.first < len(table) && !table[a.first].room() {
		a.first++
	}
	if a.first == len(table) {
		if err := a.add(); err != nil {
			return Block{}, false, err
		}
		table = *a.table.Load()
	}
	c := table[a.first]
	index, used := c.place()
	b = Block{serial: serials.Add(1), chunk: uint32(a.first), index: index}
	c.out[index].Store(b.serial)
	c.n++
	a.stats.Out++
	return b, used, nil
}

// room reports whether c is there and has a free place.
func (c *chunk) room() bool { return c != nil && c.n < len(c.out) }

func (c *chunk) place() (index uint32, used bool) {
	if n := len(c.recycle); n > 0 {
		index, c.recycle = c.recycle[n-1], c.recycle[:n-1]
		return index, true
	}
	c.fresh++
	return uint32(c.fresh - 1), false
}

// add maps a chunk when no other has room, and makes it the first that has.
func (a *arena) add() error {
	n := a.chunk
	if a.limit != 0 {
		n = min(n, (a.limit-a.stats.Mapped)/a.unit*a.unit)
	}
	if n <= 0 {
		return fmt.Errorf("%w: %d bytes of at most %d are mapped and full: raise Limit or free blocks", ErrNoMemory, a.stats.Mapped, a.limit)
	}
	c, err := a.grow(n)
	if err != nil {
		return err
	}
	c.out = make([]atomic.Uint64, len(c.mem)/a.stride)
	table := slices.Clone(*a.table.Load())
	a.first = slices.Index(table, nil)
	if a.first < 0 {
		a.first = len(table)
		table = append(table, nil)
	}
	table[a.first] = c
	a.table.Store(&table)
	a.count(c, len(c.mem))
	return nil
}

func (a *arena) count(c *chunk, bytes int) {
	a.stats.Mapped += bytes
	if c.ordinary {
		a.stats.Ordinary += bytes
	}
}

// Free takes a block back, and unmaps its chunk if it was the last one out of it. If
// the kernel refuses that, the chunk stays, to be used or unmapped later, and this is no error. It refuses a
// block that is not out with ErrForeign and changes nothing.
func (a *arena) Free(b Block) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := a.holder(b)
	if c == nil {
		return a.fail("free", fmt.Errorf("%w: this source did not hand it out, or has it back", ErrForeign))
	}
	c.out[b.index].Store(0)
	c.recycle = append(c.recycle, b.index)
	c.n--
	a.stats.Out--
	a.first = min(a.first, int(b.chunk))
	if c.n == 0 {
		_ = a.drop(int(b.chunk)) // stays mapped and counted; Close tries again
	}
	return nil
}

// drop unmaps the chunk in a slot, which has no block out.
func (a *arena) drop(slot int) error {
	table := slices.Clone(*a.table.Load())
	c := table[slot]
	if err := a.sys.munmap(c.raw); err != nil {
		return err
	}
	table[slot] = nil
	a.table.Store(&table)
	a.count(c, -len(c.mem))
	return nil
}

// holder returns the chunk that b is out of, or nil if b is not out.
func (a *arena) holder(b Block) *chunk {
	table := *a.table.Load()
	if uint64(b.chunk) >= uint64(len(table)) {
		return nil
	}
	c := table[b.chunk]
	if c == nil || uint64(b.index) >= uint64(len(c.out)) || b.serial == 0 || c.out[b.index].Load() != b.serial {
		return nil
	}
	return c
}

// Bytes returns the memory of a block, or nil for one that is not out. It is for the
// block's owner: what it returns is gone with Free.
//
//gommu:nosleep
func (a *arena) Bytes(b Block) []byte {
	c := a.holder(b)
	if c == nil {
		return nil
	}
	at := int(b.index) * a.stride
	return c.mem[at : at+a.size : at+a.size]
}

// ElemSize is how many bytes a block takes.
func (a *arena) ElemSize() int64 { return int64(a.stride) }

// Stats returns what the source holds now.
func (a *arena) Stats() MemoryStats { a.mu.Lock(); defer a.mu.Unlock(); return a.stats }

// Close ends the source. While blocks are out it refuses with ErrInUse and changes
// nothing. When the kernel does not unmap a chunk, it returns the kernel's error, and can be called
// again. Closing twice is harmless.
func (a *arena) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stats.Out != 0 {
		return a.fail("close", fmt.Errorf("%w: %d: close the pool in front first", ErrInUse, a.stats.Out))
	}
	a.closed = true
	for slot, c := range *a.table.Load() {
		if c == nil {
			continue
		}
		if err := a.drop(slot); err != nil {
			return a.fail("close", fmt.Errorf("munmap of %d bytes: %w: lower the number of mappings or raise vm.max_map_count, and close again", len(c.raw), err))
		}
	}
	return nil
}

func (a *arena) fail(op string, err error) error {
	return &OpError{Op: op, Source: a.name, Size: a.size, Err: err}
}

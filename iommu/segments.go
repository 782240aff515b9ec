package iommu

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"gommu/pagetable"
)

// Segments is a Memory made of segments whose bus addresses are known and stay what they are: the RAM of a
// model or of a machine without a guest, the hugepages of package devmem. To pin is only to look up.
type Segments struct {
	segs []pagetable.Segment // by address in this process

	mu     sync.Mutex
	free   []hole           // by segment and offset, none next to another
	out    map[uintptr]hole // what Alloc returned, by address
	pinned map[run]int      // how often
}

// A hole is bytes of a segment.
type hole struct{ seg, off, size int }

// A run is memory of this process.
type run struct {
	start uintptr
	size  int
}

func runOf(mem []byte) run { return run{addressOf(mem), len(mem)} }

func (r run) overlaps(s run) bool {
	return r.start-s.start < uintptr(s.size) || s.start-r.start < uintptr(r.size)
}

// NewSegments returns a Memory made of segs, all of which belongs to it from then on. Errors are those of
// pagetable.NewMemory: segments are whole aligned pages and do not overlap on the bus.
func NewSegments(segs ...pagetable.Segment) (*Segments, error) {
	if _, err := pagetable.NewMemory(segs...); err != nil {
		return nil, &OpError{Op: "make memory", Err: err}
	}
	s := &Segments{segs: slices.Clone(segs), out: map[uintptr]hole{}, pinned: map[run]int{}}
	slices.SortFunc(s.segs, func(a, b pagetable.Segment) int { return cmp.Compare(addressOf(a.Mem), addressOf(b.Mem)) })
	for i, seg := range s.segs {
		if i > 0 && runOf(seg.Mem).overlaps(runOf(s.segs[i-1].Mem)) {
			return nil, &OpError{Op: "make memory", Size: uint64(len(seg.Mem)), Err: ErrMemory, Detail: "segments overlap in this process"}
		}
		s.free = append(s.free, hole{i, 0, len(seg.Mem)})
	}
	return s, nil
}

// Alloc returns zeroed memory that is contiguous on the bus. It fails with ErrMemory when no segment has as much
// in one piece.
func (s *Segments) Alloc(ctx context.Context, size int) ([]byte, error) {
	fail := func(err error, detail string) ([]byte, error) {
		return nil, &OpError{Op: "allocate", Size: uint64(size), Err: err, Detail: detail}
	}
	if err := ctx.Err(); err != nil {
		return fail(err, "")
	}
	if size <= 0 || size%pageSize != 0 {
		return fail(ErrRange, fmt.Sprintf("sizes are multiples of %d", pageSize))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, h := range s.free {
		seg := s.segs[h.seg]
		skip := 0
		if size >= slabSize {
			skip = int(-(addressOf(seg.Mem) + uintptr(h.off)) & (slabSize - 1))
		}
		if skip > h.size || h.size-skip < size {
			continue
		}
		got := hole{h.seg, h.off + skip, size}
		rest := []hole{{h.seg, h.off, skip}, {h.seg, got.off + size, h.size - skip - size}}
		s.free = slices.Replace(s.free, i, i+1, slices.DeleteFunc(rest, func(h hole) bool { return h.size == 0 })...)
		mem := seg.Mem[got.off : got.off+size : got.off+size]
		clear(mem)
		s.out[addressOf(mem)] = got
		return mem, nil
	}
	return fail(ErrMemory, "no segment has as much free in one piece")
}

// Free takes memory back. It refuses with ErrMemory what is not out, and with ErrMapped what is pinned.
func (s *Segments) Free(mem []byte) error {
	fail := func(err error) error { return &OpError{Op: "free", Size: uint64(len(mem)), Err: err} }
	s.mu.Lock()
	defer s.mu.Unlock()
	at := addressOf(mem)
	h, ok := s.out[at]
	if !ok || h.size != len(mem) {
		return fail(fmt.Errorf("%w: it is not what Alloc returned, or was freed already", ErrMemory))
	}
	for p := range s.pinned {
		if p.overlaps(runOf(mem)) {
			return fail(fmt.Errorf("%w: it is pinned", ErrMapped))
		}
	}
	delete(s.out, at)
	i, _ := slices.BinarySearchFunc(s.free, h, func(a, b hole) int {
		return cmp.Or(cmp.Compare(a.seg, b.seg), cmp.Compare(a.off, b.off))
	})
	s.free = slices.Insert(s.free, i, h)
	if i+1 < len(s.free) {
		s.join(i)
	}
	if i > 0 {
		s.join(i - 1)
	}
	return nil
}

// join makes hole i one with the next if that follows it.
func (s *Segments) join(i int) {
	a, b := &s.free[i], s.free[i+1]
	if a.seg == b.seg && a.off+a.size == b.off {
		a.size += b.size
		s.free = slices.Delete(s.free, i+1, i+2)
	}
}

// Pin tells where mem lies on the bus. Memory that is not of these segments, all of it, is ErrMemory.
func (s *Segments) Pin(mem []byte) ([]pagetable.Extent, error) {
	x, err := s.extents(mem)
	if err != nil {
		return nil, &OpError{Op: "pin", Size: uint64(len(mem)), Err: err}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pinned[runOf(mem)]++
	return x, nil
}

// Unpin undoes a Pin of the same memory, or fails with ErrMemory.
func (s *Segments) Unpin(mem []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := runOf(mem)
	switch s.pinned[r] {
	case 0:
		return &OpError{Op: "unpin", Size: uint64(len(mem)), Err: fmt.Errorf("%w: it is not pinned", ErrMemory)}
	case 1:
		delete(s.pinned, r)
	default:
		s.pinned[r]--
	}
	return nil
}

// InUse is how many bytes are out, and how many runs of memory are pinned.
func (s *Segments) InUse() (bytes, pinned int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range s.out {
		bytes += h.size
	}
	return bytes, len(s.pinned)
}

// extents looks up mem, which may span segments that follow each other in this process.
func (s *Segments) extents(mem []byte) ([]pagetable.Extent, error) {
	at, left := addressOf(mem), uintptr(len(mem))
	if left == 0 || (at|left)%pageSize != 0 {
		return nil, fmt.Errorf("%w: it is not whole pages of %d bytes", ErrRange, pageSize)
	}
	var all []pagetable.Extent
	i, found := slices.BinarySearchFunc(s.segs, at, func(seg pagetable.Segment, at uintptr) int { return cmp.Compare(addressOf(seg.Mem), at) })
	if !found {
		i--
	}
	for ; left > 0; i++ {
		if i < 0 || i == len(s.segs) {
			return nil, fmt.Errorf("%w: it does not lie in the segments", ErrMemory)
		}
		seg := s.segs[i]
		off := at - addressOf(seg.Mem)
		if off >= uintptr(len(seg.Mem)) {
			return nil, fmt.Errorf("%w: it does not lie in the segments", ErrMemory)
		}
		x := pagetable.Extent{Bus: seg.Bus + uint64(off), Size: uint64(min(left, uintptr(len(seg.Mem))-off))}
		if n := len(all); n > 0 && all[n-1].Bus+all[n-1].Size == x.Bus {
			all[n-1].Size += x.Size
		} else {
			all = append(all, x)
		}
		at += uintptr(x.Size)
		left -= uintptr(x.Size)
	}
	return all, nil
}

package pagetable

import (
	"errors"
	"fmt"
	"slices"
)

// FrameSize is the size of a table page in bytes. Every VT-d table (root,
// context, PASID, first and second stage) is one such page, aligned to its size.
const FrameSize = 4096

// busBits is the width of a bus address in a table entry: bits 51:12 hold it
// (VT-d specification §9.8).
const busBits = 52

// A Frame is one 4 KiB table page, named by its bus address: the address that
// hardware uses to reach it. Memory knows where this process sees it. A frame
// in a pool is zero; who puts one back has cleared it.
type Frame struct {
	Bus uint64
}

// A Segment is a run of memory that is contiguous both for this process and on
// the bus. Bus is aligned to FrameSize and len(Mem) is a multiple of it; Mem
// does not move (it is mapped, not on the Go heap).
type Segment struct {
	Bus uint64
	Mem []byte
}

// Memory translates the bus addresses of table frames into this process's
// view of them. It is immutable, so its methods are safe to call at once from
// several goroutines. None of them blocks.
type Memory struct {
	segs []segment // sorted by bus address, disjoint
	main segment   // the largest of segs, looked at first: most memories have one
}

// ErrBadSegment reports a segment that cannot hold frames.
var ErrBadSegment = errors.New("bad memory segment")

// NewMemory returns the memory made of the given segments. It refuses
// misaligned, empty and overlapping ones, and ones that reach beyond 52 bits
// of bus address, with ErrBadSegment.
func NewMemory(segs ...Segment) (*Memory, error) {
	m := &Memory{}
	for _, s := range segs {
		if why := s.unfit(); why != "" {
			return nil, &OpError{Op: opMemory, Bus: s.Bus, Size: uint64(len(s.Mem)), Err: fmt.Errorf("%w: %s", ErrBadSegment, why)}
		}
		m.segs = append(m.segs, newSegment(s))
	}
	slices.SortFunc(m.segs, func(a, b segment) int {
		if a.first < b.first {
			return -1
		}
		return 1
	})
	for i := range m.segs {
		s := &m.segs[i]
		if i > 0 && s.first-m.segs[i-1].first < m.segs[i-1].size {
			return nil, &OpError{Op: opMemory, Bus: s.first, Size: s.size, Err: fmt.Errorf("%w: it overlaps the one at bus %#x", ErrBadSegment, m.segs[i-1].first)}
		}
		if s.size > m.main.size {
			m.main = *s
		}
	}
	return m, nil
}

// unfit says why s cannot hold frames, or nothing.
func (s Segment) unfit() string {
	size := uint64(len(s.Mem))
	switch {
	case size == 0:
		return "it is empty"
	case size%FrameSize != 0 || s.Bus%FrameSize != 0 || !aligned(s.Mem):
		return fmt.Sprintf("the memory and its bus address start and end on multiples of %d", FrameSize)
	case s.Bus >= 1<<busBits || size > 1<<busBits-s.Bus:
		return fmt.Sprintf("it reaches beyond %d bits of bus address", busBits)
	}
	return ""
}

// Contains reports whether f lies in this memory.
func (m *Memory) Contains(f Frame) bool { return m.Entries(f) != nil }

// Entries returns the 512 eight-byte entries of frame f, or nil if f does not
// lie in this memory. Hardware may read (and, for some formats, write) them
// at any time: use sync/atomic.
func (m *Memory) Entries(f Frame) *[512]uint64 {
	if f.Bus%FrameSize != 0 {
		return nil
	}
	return m.entries(f.Bus)
}

// entries is Entries for an aligned bus address. It is small enough to be
// inlined into a walk.
func (m *Memory) entries(bus uint64) *[512]uint64 {
	if bus-m.main.first < m.main.size {
		return m.main.entries(bus)
	}
	return m.search(bus)
}

// uses is the use count of the frame at bus, or nil.
func (m *Memory) uses(bus uint64) *useCount {
	if off := bus - m.main.first; off < m.main.size {
		return &m.main.uses[off/FrameSize]
	}
	if s := m.segment(bus); s != nil {
		return &s.uses[(bus-s.first)/FrameSize]
	}
	return nil
}

// search finds the frame at bus in any segment.
func (m *Memory) search(bus uint64) *[512]uint64 {
	if s := m.segment(bus); s != nil {
		return s.entries(bus)
	}
	return nil
}

func (m *Memory) segment(bus uint64) *segment {
	lo, hi := 0, len(m.segs)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		switch s := &m.segs[mid]; {
		case bus < s.first:
			hi = mid
		case bus-s.first >= s.size:
			lo = mid + 1
		default:
			return s
		}
	}
	return nil
}

package pagetable

import (
	"errors"
	"fmt"
	"slices"
)

// FrameSize is the size of a table page in bytes. Every VT-d table (root,
// context, second stage) is one such page, aligned to its size.
const FrameSize = 4096

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
// several goroutines.
type Memory struct {
	segs []segment // sorted by bus address, disjoint
}

// ErrBadSegment reports a segment that cannot hold frames.
var ErrBadSegment = errors.New("bad memory segment")

// NewMemory returns the memory made of the given segments. It refuses
// misaligned, empty and overlapping ones.
func NewMemory(segs ...Segment) (*Memory, error) {
	m := &Memory{}
	for _, s := range segs {
		if len(s.Mem) == 0 || len(s.Mem)%FrameSize != 0 || s.Bus%FrameSize != 0 || !aligned(s.Mem) {
			return nil, fmt.Errorf("%w: bus %#x, %d bytes: both the memory and its bus address start and end on multiples of %d", ErrBadSegment, s.Bus, len(s.Mem), FrameSize)
		}
		m.segs = append(m.segs, newSegment(s))
	}
	slices.SortFunc(m.segs, func(a, b segment) int {
		if a.first < b.first {
			return -1
		}
		return 1
	})
	for i := 1; i < len(m.segs); i++ {
		if m.segs[i].first <= m.segs[i-1].last {
			return nil, fmt.Errorf("%w: bus %#x overlaps the one at %#x", ErrBadSegment, m.segs[i].first, m.segs[i-1].first)
		}
	}
	return m, nil
}

// Contains reports whether f lies in this memory.
func (m *Memory) Contains(f Frame) bool { return m.find(f.Bus) != nil && f.Bus%FrameSize == 0 }

// Entries returns the 512 eight-byte entries of frame f, or nil if f does not
// lie in this memory. Hardware may read (and, for some formats, write) them
// at any time: use sync/atomic.
func (m *Memory) Entries(f Frame) *[512]uint64 {
	s := m.find(f.Bus)
	if s == nil || f.Bus%FrameSize != 0 {
		return nil
	}
	return s.entries(f.Bus)
}

func (m *Memory) find(bus uint64) *segment {
	for i := range m.segs {
		if s := &m.segs[i]; bus >= s.first && bus <= s.last {
			return s
		}
	}
	return nil
}

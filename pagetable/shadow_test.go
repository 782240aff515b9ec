package pagetable

import (
	"bytes"

	"gommu/internal/cacheline"
)

// shadow is memory as a unit that does not snoop may see it: the lines that
// were flushed and fenced, and poison where none was since the frame came
// from the pool. The poison looks like leaves.
//
// At every flush it also looks at the other extreme, a cache that was written
// back whole just then: a table that the unit could reach so must be complete
// in memory already.
type shadow struct {
	m       *model
	bytes   []byte
	pending [][2]int // offsets of lines flushed, not fenced
	lines   int      // flushed
	stop    func()
}

const poison = 0xa5 // as a word it has R set

func newShadow(m *model) *shadow {
	s := &shadow{m: m, bytes: bytes.Repeat([]byte{poison}, len(m.rig.raw))}
	stopFlush, stopFence := cacheline.Watch(s.flush), cacheline.WatchFence(s.fence)
	s.stop = func() { stopFlush(); stopFence() }
	return s
}

func (s *shadow) flush(words []uint64) {
	s.m.t.Helper()
	if at := offset(s.m.rig.raw, &words[0]); at < 0 || at >= len(s.bytes) {
		return // another test's
	}
	if s.m.tbl != nil { // else it is New's flush of the root
		s.checkReachable(s.m.tbl.root.Bus, s.m.levels)
	}
	first := offset(s.m.rig.raw, &words[0]) &^ (cacheline.Size - 1)
	end := offset(s.m.rig.raw, &words[len(words)-1]) + 8
	for off := first; off < end; off += cacheline.Size {
		s.pending = append(s.pending, [2]int{off, off + cacheline.Size})
		s.lines++
	}
}

func (s *shadow) fence() {
	for _, r := range s.pending {
		copy(s.bytes[r[0]:r[1]], s.m.rig.raw[r[0]:])
	}
	s.pending = s.pending[:0]
}

// checkReachable fails if a table that the CPU's view of the tree leads to has
// poison in memory.
func (s *shadow) checkReachable(table uint64, depth int) {
	s.m.t.Helper()
	off := int(table - s.m.rig.bus)
	for i := off; i < off+FrameSize; i += 8 {
		if s.bytes[i] == poison && s.bytes[i+7] == poison {
			s.m.t.Fatalf("table %#x is linked before word %d of it is in memory", table, (i-off)/8)
		}
		e := le64(s.m.rig.raw[i:])
		if depth > 1 && s.m.rig.walker(s.m.tbl).present(e) && e>>7&1 == 0 {
			s.checkReachable(e&0x000f_ffff_ffff_f000, depth-1)
		}
	}
}

// forget poisons every frame that is not in the tree nor in the batch: the
// memory behind a pool's frames is whatever was there before.
func (s *shadow) forget() {
	s.m.t.Helper()
	w := s.m.rig.walker(s.m.tbl)
	w.held, w.marks = true, s.m.seenMarks()
	_, tables, err := w.scan()
	if err != nil {
		s.m.t.Fatalf("%v", err)
	}
	for off := 0; off < len(s.bytes); off += FrameSize {
		if !tables[s.m.rig.bus+uint64(off)] {
			for i := off; i < off+FrameSize; i++ {
				s.bytes[i] = poison
			}
		}
	}
}

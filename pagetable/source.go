package pagetable

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// ErrNoFrames is what a FrameSource returns when its memory is used up.
var ErrNoFrames = errors.New("no table frames left")

// A FrameSource hands out the frames of a Memory, zeroed. It is the source
// behind a pool of frames (respool.Source). It locks a mutex and clears memory, so it is not for
// callers that must not sleep; the pool in front of it is.
type FrameSource struct {
	mem *Memory

	mu   sync.Mutex
	free []Frame
	out  map[Frame]struct{}
}

// Frames returns a source of all frames of m, the lowest bus addresses first.
// A memory has only one source at a time: a second one would hand out the
// same frames.
func (m *Memory) Frames() *FrameSource {
	s := &FrameSource{mem: m, out: make(map[Frame]struct{})}
	for i := len(m.segs) - 1; i >= 0; i-- {
		seg := &m.segs[i]
		for off := seg.size; off > 0; off -= FrameSize {
			s.free = append(s.free, Frame{seg.first + off - FrameSize})
		}
	}
	return s
}

// Alloc returns a zeroed frame, or ErrNoFrames.
func (s *FrameSource) Alloc(ctx context.Context) (Frame, error) {
	if err := ctx.Err(); err != nil {
		return Frame{}, err
	}
	f, err := s.take()
	if err != nil {
		return Frame{}, err
	}
	fill(s.mem.Entries(f)[:], 0, 0)
	return f, nil
}

func (s *FrameSource) take() (Frame, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.free)
	if n == 0 {
		return Frame{}, &OpError{Op: opAlloc, Err: fmt.Errorf("%w: all %d are handed out; give the table memory more room", ErrNoFrames, len(s.out))}
	}
	f := s.free[n-1]
	s.free = s.free[:n-1]
	s.out[f] = struct{}{}
	return f, nil
}

// Free takes a frame back. It refuses one that it did not hand out, with
// ErrForeignFrame.
func (s *FrameSource) Free(f Frame) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.out[f]; !ok {
		return &OpError{Op: opFree, Bus: f.Bus, Size: FrameSize, Err: fmt.Errorf("%w: this source did not hand it out, or has it back", ErrForeignFrame)}
	}
	delete(s.out, f)
	s.free = append(s.free, f)
	return nil
}

// ElemSize is the number of bytes that a frame holds (respool.Sizer).
func (s *FrameSource) ElemSize() int64 { return FrameSize }

// Outstanding is how many frames are handed out.
func (s *FrameSource) Outstanding() int { s.mu.Lock(); defer s.mu.Unlock(); return len(s.out) }

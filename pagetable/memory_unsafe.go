package pagetable

import "unsafe"

// segment is a Segment as the walker needs it: base is where the process sees
// the byte that the bus calls first.
type segment struct {
	first, size uint64 // bus address and bytes
	base        unsafe.Pointer
	uses        []useCount // of the frames, in order
}

func newSegment(s Segment) segment {
	return segment{
		first: s.Bus, size: uint64(len(s.Mem)), base: unsafe.Pointer(unsafe.SliceData(s.Mem)),
		uses: make([]useCount, len(s.Mem)/FrameSize),
	}
}

// entries is the frame at bus, which is aligned and lies inside the segment.
func (s *segment) entries(bus uint64) *[512]uint64 {
	return (*[512]uint64)(unsafe.Add(s.base, bus-s.first))
}

// frame is the i-th frame of the segment.
func (s *segment) frame(i uint64) *[512]uint64 {
	return (*[512]uint64)(unsafe.Add(s.base, i*FrameSize))
}

func aligned(b []byte) bool {
	return uintptr(unsafe.Pointer(unsafe.SliceData(b)))%FrameSize == 0
}

package measure

import (
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"gommu/pagetable"
)

// TestSlices: what a mapping is of lies in memory, whole pieces, none twice, and none of a list's next to another.
func TestSlices(t *testing.T) {
	for _, s := range Shapes() {
		mem := make([]byte, memorySize)
		for i := range mem {
			mem[i] = byte(i / s.Size)
		}
		for n := range 1000 {
			list, err := s.Slice(mem, n)
			if err != nil || len(list) != s.Pieces {
				t.Fatalf("%s %d: %d pieces, %v", s.Name, n, len(list), err)
			}
			var places []int
			for _, piece := range list {
				at := offset(mem, piece)
				if len(piece) != s.Size || at%uint64(s.Size) != 0 || at+uint64(len(piece)) > uint64(len(mem)) {
					t.Fatalf("%s %d: %d bytes at %d", s.Name, n, len(piece), at)
				}
				places = append(places, int(at)/s.Size)
			}
			slices.Sort(places)
			for i := 1; i < len(places); i++ {
				if places[i] < places[i-1]+2 {
					t.Fatalf("%s %d: pieces at %d", s.Name, n, places)
				}
			}
		}
		if _, err := s.Slice(mem[:s.Bytes()-1], 0); !errors.Is(err, ErrMemory) {
			t.Errorf("%s of too little: %v", s.Name, err)
		}
	}
}

// TestPart: a part of extents is where the bytes are, each for itself.
func TestPart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var whole []pagetable.Extent
		var bus []uint64 // of each byte
		for i := range rapid.IntRange(0, 5).Draw(t, "extents") {
			e := pagetable.Extent{Bus: uint64(1000 * (7 - i)), Size: rapid.Uint64Range(1, 20).Draw(t, "size")}
			whole = append(whole, e)
			for b := range e.Size {
				bus = append(bus, e.Bus+b)
			}
		}
		off := rapid.IntRange(0, len(bus)).Draw(t, "off")
		size := rapid.IntRange(0, len(bus)-off).Draw(t, "of")
		var got []uint64
		for _, e := range part(whole, uint64(off), uint64(size)) {
			for b := range e.Size {
				got = append(got, e.Bus+b)
			}
		}
		if !slices.Equal(got, bus[off:off+size]) {
			t.Fatalf("%d bytes at %d of %v: %v", size, off, whole, got)
		}
	})
}

// TestClock: its step is the smallest difference, and a loop is as long as was asked for, roughly.
func TestClock(t *testing.T) {
	for _, c := range []struct {
		sorted []int64
		want   int64
	}{{nil, 1}, {[]int64{5, 5, 5}, 1}, {[]int64{0, 30, 40, 40, 60}, 10}} {
		if got := step(c.sorted); got != c.want {
			t.Errorf("step of %v is %d, want %d", c.sorted, got, c.want)
		}
	}
	if a, b := calibrate(0), calibrate(1000); a != 1 || b < 10 {
		t.Errorf("%d rounds for nothing, %d for a microsecond", a, b)
	}
}

package iommu

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"pgregory.net/rapid"

	"gommu/pagetable"
)

// aligned is memory of the Go heap, which does not move either, that starts on a multiple of 2 MiB.
func aligned(size int) []byte {
	raw := make([]byte, size+slabSize)
	skip := int(-addressOf(raw) & (slabSize - 1))
	return raw[skip : skip+size : skip+size]
}

func segments(t testing.TB, segs ...pagetable.Segment) *Segments {
	t.Helper()
	s, err := NewSegments(segs...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// refused checks that an error is an OpError of this cause.
func refused(t testing.TB, what string, err, cause error) {
	t.Helper()
	var op *OpError
	if !errors.Is(err, cause) || !errors.As(err, &op) {
		t.Errorf("%s: %v; want an OpError of %q", what, err, cause)
	}
}

// TestSegmentsRandom allocates, frees and pins at random: what is out is disjoint, zero, aligned and where Pin says; in
// the end all can be had in one piece.
func TestSegmentsRandom(t *testing.T) {
	ctx := context.Background()
	ram := aligned(16 << 20)
	const bus = 1 << 32
	rapid.Check(t, func(t *rapid.T) {
		s, err := NewSegments(pagetable.Segment{Bus: bus, Mem: ram[:9<<20]}, pagetable.Segment{Bus: 1 << 20, Mem: ram[10<<20:]})
		if err != nil {
			t.Fatal(err)
		}
		var out [][]byte
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			if len(out) > 0 && rapid.Bool().Draw(t, "free") {
				i := rapid.IntRange(0, len(out)-1).Draw(t, "which")
				x, err := s.Pin(out[i])
				if err != nil || len(x) != 1 || x[0].Size != uint64(len(out[i])) {
					t.Fatalf("%v, %v", x, err)
				}
				off := addressOf(out[i]) - addressOf(ram)
				want := bus + uint64(off)
				if off >= 10<<20 {
					want = 1<<20 + uint64(off) - 10<<20
				}
				if x[0].Bus != want {
					t.Fatalf("offset %#x lies at %#x", off, x[0].Bus)
				}
				if err := s.Free(out[i]); !errors.Is(err, ErrMapped) {
					t.Fatalf("free of what is pinned: %v", err)
				}
				if err := errors.Join(s.Unpin(out[i]), s.Free(out[i])); err != nil {
					t.Fatal(err)
				}
				if err := s.Free(out[i]); !errors.Is(err, ErrMemory) {
					t.Fatalf("free twice: %v", err)
				}
				out = append(out[:i], out[i+1:]...)
				continue
			}
			size := rapid.SampledFrom([]int{1, 2, 3, 17, 255, 512, 513, 1024}).Draw(t, "pages") * pageSize
			mem, err := s.Alloc(ctx, size)
			if err != nil {
				if !errors.Is(err, ErrMemory) {
					t.Fatal(err)
				}
				continue
			}
			if len(mem) != size || size >= slabSize && addressOf(mem)%slabSize != 0 || !bytes.Equal(mem[:pageSize], make([]byte, pageSize)) || mem[size-1] != 0 {
				t.Fatalf("%#x bytes at %#x, dirty or misaligned", len(mem), addressOf(mem))
			}
			for _, o := range out {
				if runOf(o).overlaps(runOf(mem)) {
					t.Fatal("overlaps what is out")
				}
			}
			mem[0], mem[size-1] = 1, 1
			out = append(out, mem)
		}
		for _, o := range out {
			if err := s.Free(o); err != nil {
				t.Fatal(err)
			}
		}
		if n, pinned := s.InUse(); n != 0 || pinned != 0 || len(s.free) != 2 {
			t.Fatalf("%d bytes and %d pins left, free %v", n, pinned, s.free)
		}
	})
}

func TestSegmentsErrors(t *testing.T) {
	ctx := context.Background()
	ram := aligned(4 << 20)
	_, err := NewSegments(pagetable.Segment{Bus: 1, Mem: ram})
	refused(t, "misaligned", err, pagetable.ErrBadSegment)
	_, err = NewSegments(pagetable.Segment{Bus: 0, Mem: ram}, pagetable.Segment{Bus: 1 << 30, Mem: ram[:4096]})
	refused(t, "one memory twice", err, ErrMemory)

	// Two that follow each other here, and not on the bus.
	s := segments(t, pagetable.Segment{Bus: 1 << 30, Mem: ram[2<<20:]}, pagetable.Segment{Bus: 2 << 30, Mem: ram[:2<<20]})
	for _, size := range []int{0, -4096, 100} {
		_, err = s.Alloc(ctx, size)
		refused(t, "bad size", err, ErrRange)
	}
	_, err = s.Alloc(ctx, 4<<20)
	refused(t, "more than a segment", err, ErrMemory)
	done, stop := context.WithCancel(ctx)
	stop()
	_, err = s.Alloc(done, 4096)
	refused(t, "a context that ended", err, context.Canceled)
	refused(t, "free of what is not out", s.Free(ram[:4096]), ErrMemory)
	refused(t, "unpin of what is not pinned", s.Unpin(ram[:4096]), ErrMemory)

	x, err := s.Pin(ram[1<<20 : 3<<20])
	if want := (pagetable.Extent{Bus: 2<<30 + 1<<20, Size: 1 << 20}); err != nil || len(x) != 2 || x[0] != want || x[1].Bus != 1<<30 {
		t.Errorf("over both: %v, %v", x, err)
	}
	for what, mem := range map[string][]byte{"foreign": aligned(4096), "beyond the end": ram[4<<20-4096 : 4<<20][:4096:4096]} {
		_, err := s.Pin(mem)
		if what == "foreign" {
			refused(t, what, err, ErrMemory)
		} else if err != nil {
			t.Errorf("the last page: %v", err)
		}
	}
	_, err = s.Pin(ram[1:4097])
	refused(t, "half pages", err, ErrRange)
	_, err = s.Pin(nil)
	refused(t, "nothing", err, ErrRange)
	for _, mem := range [][]byte{ram[1<<20 : 3<<20], ram[4<<20-4096:]} {
		if err := s.Unpin(mem); err != nil {
			t.Error(err)
		}
	}
	half := segments(t, pagetable.Segment{Bus: 1 << 30, Mem: ram[:2<<20]})
	_, err = half.Pin(ram[2<<20-4096 : 2<<20+4096])
	refused(t, "over the end", err, ErrMemory)
	_, err = segments(t, pagetable.Segment{Bus: 1 << 30, Mem: ram[2<<20:]}).Pin(ram[2<<20-4096 : 2<<20+4096])
	refused(t, "over the start", err, ErrMemory)
}

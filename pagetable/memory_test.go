package pagetable

import (
	"context"
	"errors"
	"testing"

	"gommu/respool"
)

func TestMemory(t *testing.T) {
	raw := slab(8)
	mem, err := NewMemory(
		Segment{Bus: 1<<52 - 2*kib4, Mem: raw[6*kib4:]}, // up to the last bus address
		Segment{Bus: 0, Mem: raw[:kib4]},
		Segment{Bus: 0x10000, Mem: raw[kib4 : 5*kib4]},
	)
	if err != nil {
		t.Fatal(err)
	}
	for bus, off := range map[uint64]int{0: 0, 0x10000: kib4, 0x13000: 4 * kib4, 1<<52 - 2*kib4: 6 * kib4, 1<<52 - kib4: 7 * kib4} {
		p := mem.Entries(Frame{bus})
		if p == nil || offset(raw, &p[0]) != off || !mem.Contains(Frame{bus}) {
			t.Errorf("frame %#x is not at offset %#x", bus, off)
		}
	}
	for _, bus := range []uint64{kib4, 0x10008, 0xf000, 0x14000, 1<<52 - 3*kib4, 1 << 52, 1<<64 - kib4, 1} {
		if mem.Entries(Frame{bus}) != nil || mem.Contains(Frame{bus}) {
			t.Errorf("finds frame %#x", bus)
		}
	}
}

func TestMemoryRefuses(t *testing.T) {
	raw := slab(4)
	for name, segs := range map[string][]Segment{
		"empty":      {{Bus: 0, Mem: nil}},
		"bus":        {{Bus: 8, Mem: raw}},
		"memory":     {{Bus: 0, Mem: raw[8 : kib4+8]}},
		"length":     {{Bus: 0, Mem: raw[:kib4+8]}},
		"beyond":     {{Bus: 1 << 52, Mem: raw}},
		"ends there": {{Bus: 1<<52 - kib4, Mem: raw[:2*kib4]}},
		"wraps":      {{Bus: 1<<64 - kib4, Mem: raw[:kib4]}},
		"overlap":    {{Bus: 2 * kib4, Mem: raw[:kib4]}, {Bus: 0, Mem: raw[kib4 : 4*kib4]}},
		"twice":      {{Bus: 0, Mem: raw[:kib4]}, {Bus: 0, Mem: raw[kib4 : 2*kib4]}},
	} {
		if _, err := NewMemory(segs...); !isErr(err, ErrBadSegment) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := NewMemory(Segment{Bus: 8, Mem: raw[:kib4]})
	if want := "pagetable: new memory bus 0x8 size 0x1000: bad memory segment: the memory and its bus address start and end on multiples of 4096"; err.Error() != want {
		t.Errorf("%q", err)
	}
}

func TestFrameSource(t *testing.T) {
	if n := respool.Sizer((&Memory{}).Frames()).ElemSize(); n != FrameSize {
		t.Errorf("ElemSize is %d", n)
	}
	raw := slab(4)
	for i := range raw {
		raw[i] = 0xff
	}
	mem, err := NewMemory(Segment{Bus: 0x9000, Mem: raw[kib4:]}, Segment{Bus: 0, Mem: raw[:kib4]})
	if err != nil {
		t.Fatal(err)
	}
	src, ctx := mem.Frames(), context.Background()
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := src.Alloc(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	for i, want := range []uint64{0, 0x9000, 0xa000, 0xb000} {
		f, err := src.Alloc(ctx)
		if err != nil || f.Bus != want || src.Outstanding() != i+1 {
			t.Fatalf("%+v, %v, %d out; want %#x", f, err, src.Outstanding(), want)
		}
		if *mem.Entries(f) != [512]uint64{} {
			t.Errorf("%#x is not zero", f.Bus)
		}
	}
	if _, err := src.Alloc(ctx); !isErr(err, ErrNoFrames) {
		t.Errorf("%v", err)
	}
	if err := src.Free(Frame{0xa000}); err != nil {
		t.Error(err)
	}
	for _, f := range []Frame{{0xa000}, {0xc000}, {1}} {
		if err := src.Free(f); !isErr(err, ErrForeignFrame) {
			t.Errorf("%#x: %v", f.Bus, err)
		}
	}
	if f, err := src.Alloc(ctx); f.Bus != 0xa000 || err != nil {
		t.Errorf("%+v, %v", f, err)
	}
}

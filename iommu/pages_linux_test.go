package iommu

import (
	"context"
	"testing"

	"gommu/internal/held"
)

func TestPages(t *testing.T) {
	ctx := context.Background()
	before := held.Now(t)
	var p Pages
	var out [][]byte
	for _, size := range []int{4096, 12288, 2 << 20, 3 << 20, 6 << 20} {
		for _, p.Ordinary = range []bool{false, true} {
			mem, err := p.Alloc(ctx, size)
			if err != nil {
				t.Fatal(err)
			}
			if len(mem) != size || cap(mem) != size || size >= slabSize && addressOf(mem)%slabSize != 0 || mem[0]|mem[size-1] != 0 {
				t.Errorf("%#x bytes at %#x", len(mem), addressOf(mem))
			}
			mem[0], mem[size-1] = 1, 1
			if x, err := p.Pin(mem); err != nil || x != nil {
				t.Errorf("pinned: %v, %v", x, err)
			}
			out = append(out, mem)
		}
	}
	if s := p.Stats(); s.Out != 2*(4096+12288+11<<20) {
		t.Errorf("%+v", s)
	} else {
		t.Logf("%d of %d KiB in reserved hugepages", s.Huge>>10, s.Out>>10)
	}
	for _, size := range []int{0, -1, 100, 1<<40 + 4096} {
		_, err := p.Alloc(ctx, size)
		refused(t, "bad size", err, ErrRange)
	}
	_, err := p.Pin(out[0][1:])
	refused(t, "pin half a page", err, ErrRange)
	refused(t, "free of a part", p.Free(out[2][:4096]), ErrMemory)
	for _, mem := range out[:4] {
		if err := p.Free(mem); err != nil {
			t.Error(err)
		}
		refused(t, "free twice", p.Free(mem), ErrMemory)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if s := p.Stats(); s != (PagesStats{}) {
		t.Errorf("%+v", s)
	}
	held.Check(t, before)
}

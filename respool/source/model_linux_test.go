package source

import (
	"errors"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestModel runs random calls on Pages or HugePages against what is simplest: a map of
// the blocks that are out, and the number of chunks that this many need at least.
func TestModel(t *testing.T) {
	noLeak(t)
	rapid.Check(t, func(t *rapid.T) {
		m, blockRoom, limit := drawMemory(t)
		out := map[Block]byte{}
		var gone []Block
		var next byte
		pick := func() Block {
			// Sorted, so that rapid can run a failure again.
			bs := slices.SortedFunc(maps.Keys(out), func(a, b Block) int { return int(a.serial) - int(b.serial) })
			return bs[rapid.IntRange(0, len(bs)-1).Draw(t, "which")]
		}
		t.Repeat(map[string]func(*rapid.T){
			"alloc": func(t *rapid.T) {
				b, err := m.Alloc(ctx)
				if full := (len(out)+1)*blockRoom > limit; full != (err != nil) || full && !errors.Is(err, ErrNoMemory) {
					t.Fatalf("%d out, limit %d: %v", len(out), limit, err)
				}
				if err == nil {
					next = next%255 + 1
					paint(t, m.Bytes(b), next)
					out[b] = next
				}
			},
			"free": func(t *rapid.T) {
				if len(out) == 0 {
					t.Skip("nothing is out")
				}
				b := pick()
				painted(t, m.Bytes(b), out[b])
				free(t, m, b)
				delete(out, b)
				gone = append(gone, b)
			},
			"free again": func(t *rapid.T) {
				if len(gone) == 0 {
					t.Skip("nothing was freed")
				}
				b := rapid.SampledFrom(gone).Draw(t, "gone")
				if err := m.Free(b); !errors.Is(err, ErrForeign) || m.Bytes(b) != nil {
					t.Fatalf("Free(%v) again: %v", b, err)
				}
			},
			"close": func(t *rapid.T) {
				if len(out) == 0 {
					t.Skip("it would close")
				}
				if err := m.Close(); !errors.Is(err, ErrInUse) {
					t.Fatalf("Close: %v", err)
				}
			},
			"": func(t *rapid.T) {
				s := m.Stats()
				if s.Out != len(out) || s.Mapped < len(out)*blockRoom || s.Mapped > limit || (s.Mapped == 0) != (len(out) == 0) {
					t.Fatalf("%d out: %+v", len(out), s)
				}
			},
		})
		for b, v := range out {
			painted(t, m.Bytes(b), v)
			free(t, m, b)
		}
		end(t, m)
	})
}

// drawMemory returns a source, the bytes that a block takes and the bytes that fit.
func drawMemory(t *rapid.T) (m memory, blockRoom, limit int) {
	p := &probe{}
	if rapid.Bool().Draw(t, "huge") {
		o := HugePagesOptions{PageSize: 64 << 10, Fallback: true, Size: 1 << rapid.IntRange(12, 16).Draw(t, "size"), Limit: (64 << 10) * rapid.IntRange(1, 3).Draw(t, "limit")}
		h, err := newHugePages(o, noHuge(p))
		if err != nil {
			t.Fatal(err)
		}
		return h, o.Size, o.Limit
	}
	o := PagesOptions{Size: rapid.IntRange(page/8, 3*page).Draw(t, "size"), Chunk: page * rapid.IntRange(1, 6).Draw(t, "chunk"), Limit: page * rapid.IntRange(3, 20).Draw(t, "limit")}
	pages := openPages(t, p, o)
	room := strideOf(o.Size, page)
	return pages, room, o.Limit / max(room, page) * max(room, page)
}

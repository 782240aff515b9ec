package vtd_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gommu/iommu/vtd"
	"gommu/pagetable"
)

// stale is what memory holds where nothing was written back: as an entry it has
// P set.
const stale = 0xa5a5_a5a5_a5a5_a5a5

// shadow is memory as a unit that does not snoop may see it: the words that were
// written back, and stale ones elsewhere.
type shadow struct {
	t      *testing.T
	bench  *bench
	words  map[*uint64]uint64
	writes int
}

func (s *shadow) writeBack(words []uint64) {
	s.writes++
	for i := range words {
		s.words[&words[i]] = words[i]
	}
	s.check()
}

// check fails if the unit can find something else in memory than was stored, in
// the root table or in a context table that memory leads to.
func (s *shadow) check() {
	s.t.Helper()
	if s.bench.rtaddr == 0 {
		return // the unit has no root table yet
	}
	root := s.view(s.bench.rtaddr)
	if diff := cmp.Diff(*s.bench.mem.Entries(pagetable.Frame{Bus: s.bench.rtaddr}), root); diff != "" {
		s.t.Errorf("root table: %s", diff)
	}
	for bus := range 256 {
		if e := root[2*bus]; e&1 != 0 {
			table := e &^ 0xfff
			if diff := cmp.Diff(*s.bench.mem.Entries(pagetable.Frame{Bus: table}), s.view(table)); diff != "" {
				s.t.Errorf("context table of bus %d: %s", bus, diff)
			}
		}
	}
}

// view is a frame as the unit finds it.
func (s *shadow) view(bus uint64) (v [512]uint64) {
	words := s.bench.mem.Entries(pagetable.Frame{Bus: bus})
	for i := range words {
		v[i] = stale
		if w, ok := s.words[&words[i]]; ok {
			v[i] = w
		}
	}
	return v
}

// TestWrittenBack checks what a unit that does not snoop finds in memory: whatever
// it can reach is there before it can be reached, and before each invalidation.
func TestWrittenBack(t *testing.T) {
	bothWays(t, func(t *testing.T, opts vtd.Options) {
		for _, cm := range []uint64{0, capCM} {
			b := newBench(t)
			b.capability |= cm
			s := &shadow{t: t, bench: b, words: make(map[*uint64]uint64)}
			opts.Timeout = 5 * time.Millisecond
			u, err := vtd.OpenWithWriteBack(b, b.mem, b.frames, opts, s.writeBack)
			if err != nil {
				t.Fatal(err)
			}
			b.watch = s.check
			for _, step := range []func() error{
				func() error { return u.Attach(0x18, 1, goodTable) },
				func() error { return u.Enable(t.Context()) },
				func() error { return u.Attach(0x20, 2, goodTable) },
				func() error { return u.Attach(0x118, 1, goodTable) },
				func() error { return u.Detach(0x20) },
				func() error { return u.Detach(0x118) },
				func() error { b.stuck["queue"], b.stuck["CCMD"] = true, true; u.Detach(0x18); return nil },
			} {
				if err := step(); err != nil {
					t.Error(err)
				}
				s.check()
			}
			b.watch = nil
			b.unstick()
			if err := u.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestSnooped: nothing is written back for a unit that snoops.
func TestSnooped(t *testing.T) {
	b := newBench(t)
	b.extra |= 1
	s := &shadow{t: t, bench: b, words: make(map[*uint64]uint64)}
	u, err := vtd.OpenWithWriteBack(b, b.mem, b.frames, vtd.Options{}, s.writeBack)
	if err != nil {
		t.Fatal(err)
	}
	if err := u.Attach(0x18, 1, goodTable); err != nil {
		t.Error(err)
	}
	if err := u.Close(); err != nil || s.writes != 0 {
		t.Errorf("%v, %d writes back", err, s.writes)
	}
}

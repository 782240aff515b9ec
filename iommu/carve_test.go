package iommu

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"

	"gommu/respool"
	"gommu/respool/source"
)

// TestCarve takes and gives slots at random: those that are out are disjoint, lie in slabs that are out and start on
// their size; in the end all slabs are back.
func TestCarve(t *testing.T) {
	ctx := context.Background()
	rapid.Check(t, func(t *rapid.T) {
		next := uint32(0)
		slabs, err := respool.New(ctx, &source.Values[uint32]{New: func() (uint32, error) { next++; return next - 1, nil }},
			respool.Options{Min: 3, Low: 1, High: 1, Max: 3})
		if err != nil {
			t.Fatal(err)
		}
		c := &carver{slabs: slabs}
		type held struct {
			s     slot
			class int
		}
		var out []held
		pages := map[slot]bool{}
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			if len(out) > 0 && rapid.IntRange(0, 2).Draw(t, "give") == 0 {
				i := rapid.IntRange(0, len(out)-1).Draw(t, "which")
				h := out[i]
				out = append(out[:i], out[i+1:]...)
				for n := range slot(bouncePages[h.class]) {
					delete(pages, h.s+n)
				}
				if err := c.give(h.s, h.class); err != nil {
					t.Fatal(err)
				}
				continue
			}
			class := rapid.IntRange(0, bounceClasses-1).Draw(t, "class")
			if len(pages)+int(bouncePages[class]) > slabPages {
				continue // there may be none: take would wait
			}
			s, err := c.take(ctx, class)
			if err != nil {
				t.Fatal(err)
			}
			size := slot(bouncePages[class])
			if s%size != 0 || s+size > 3*slabPages {
				t.Fatalf("slot %#x of class %d", s, class)
			}
			for n := range size {
				if pages[s+n] {
					t.Fatalf("page %#x is out twice", s+n)
				}
				pages[s+n] = true
			}
			out = append(out, held{s, class})
		}
		for _, h := range out {
			if err := c.give(h.s, h.class); err != nil {
				t.Fatal(err)
			}
		}
		if st := slabs.Stats(); st.InUse != 0 || len(c.free[0])+len(c.free[1])+len(c.free[2]) != 0 {
			t.Fatalf("%d slabs are out, free slots %v", st.InUse, c.free)
		}
		if err := slabs.Close(ctx); err != nil {
			t.Fatal(err)
		}
	})
}

// TestCarveAtOnce has takers of several classes wait for slabs at the same time: whatever each then needs, no slab is left in
// the carver that nobody has a slot of.
func TestCarveAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		next := uint32(0)
		slabs, err := respool.New(ctx, &source.Values[uint32]{New: func() (uint32, error) { next++; return next - 1, nil }},
			respool.Options{Min: 3, Low: 1, High: 1, Max: 3})
		if err != nil {
			t.Fatal(err)
		}
		all, err := slabs.Reserve(3)
		if err != nil {
			t.Fatal(err)
		}
		c := &carver{slabs: slabs}
		out := make([]slot, bounceClasses)
		var takers sync.WaitGroup
		for class := range out {
			takers.Go(func() {
				var err error
				if out[class], err = c.take(ctx, class); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait() // all of them wait for a slab
		if err := all.Return(); err != nil {
			t.Fatal(err)
		}
		takers.Wait()
		for class, s := range out {
			if err := c.give(s, class); err != nil {
				t.Fatal(err)
			}
		}
		if st := slabs.Stats(); st.InUse != 0 || len(c.free[0])+len(c.free[1])+len(c.free[2]) != 0 {
			t.Fatalf("%d slabs are out, free slots %v", st.InUse, c.free)
		}
		if err := slabs.Close(ctx); err != nil {
			t.Fatal(err)
		}
	})
}

// TestRegionTable adds, shows and removes at random and asks at random places, compared with a plain list.
func TestRegionTable(t *testing.T) {
	const base = 1 << 40
	rapid.Check(t, func(t *rapid.T) {
		var table regionTable
		table.init()
		var all []*Region
		shown := map[*Region]bool{}
		at := rapid.Custom(func(t *rapid.T) uintptr { return base + uintptr(rapid.IntRange(0, 60).Draw(t, "page"))*pageSize })
		size := rapid.IntRange(1, 8)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0:
				r := &Region{start: at.Draw(t, "start"), size: uint64(size.Draw(t, "size")) * pageSize, purpose: forAll}
				var want error
				for _, o := range all {
					if r.start < o.start+uintptr(o.size) && o.start < r.start+uintptr(r.size) {
						want = ErrRegistered
					}
				}
				if err := table.add(r); err != want {
					t.Fatalf("add: %v, want %v", err, want)
				}
				if want == nil {
					all = append(all, r)
				}
			case 1:
				if len(all) > 0 {
					r := all[rapid.IntRange(0, len(all)-1).Draw(t, "which")]
					table.show(r)
					shown[r] = true
				}
			case 2:
				if len(all) > 0 {
					i := rapid.IntRange(0, len(all)-1).Draw(t, "which")
					table.remove(all[i])
					delete(shown, all[i])
					all = append(all[:i], all[i+1:]...)
				}
			}
			start := at.Draw(t, "at") + uintptr(rapid.IntRange(0, pageSize-1).Draw(t, "in"))
			n := uintptr(rapid.SampledFrom([]int{1, 100, pageSize, 3 * pageSize, 1 << 30}).Draw(t, "n"))
			var want *Region
			for _, r := range all {
				if shown[r] && r.start <= start && start+n <= r.start+uintptr(r.size) {
					want = r
				}
			}
			if got := table.find(start, n); got != want {
				t.Fatalf("%#x bytes at %#x: %+v, want %+v", n, start, got, want)
			}
			if table.find(^uintptr(0)-10, 11) != nil || table.find(0, 1) != nil {
				t.Fatal("found at the ends")
			}
			for _, r := range all {
				if r.id == 0 || table.get(r.id) != r {
					t.Fatalf("id %d", r.id)
				}
			}
			if got := table.all(); len(got) != len(all) {
				t.Fatalf("%d of %d", len(got), len(all))
			}
		}
	})
}

func TestBudgetUnknown(t *testing.T) {
	var b budget
	for range 1000 {
		if err := b.take(); err != nil {
			t.Fatal(err)
		}
	}
	b.tell(func(int, int) { t.Error("told of a limit that is not known") })
}

package pagetable

import (
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"
)

// The 17 cases of the KUnit suites of Linux's generic_pt, by what they check,
// for all five formats. The random map is TestStress and TestTableStateMachine,
// too.

var formats = []Options{
	{AddressWidth: 39}, {AddressWidth: 48}, {AddressWidth: 57},
	{Stage: FirstStage, AddressWidth: 48}, {Stage: FirstStage, AddressWidth: 57},
}

// eachFormat runs f with a table of each format and the ends of its space: the
// lowest IOVA, the last of the lower half, the first of the upper one (or 0).
func eachFormat(t *testing.T, frames int, f func(t *testing.T, r *rig, tbl *Table)) {
	for _, opts := range formats {
		t.Run(fmt.Sprintf("%v/%d", opts.Stage, opts.AddressWidth), func(t *testing.T) {
			r := newRig(t, frames)
			f(t, r, r.table(t, opts))
		})
	}
}

var leafSizes = []uint64{kib4, mib2, gib1}

// topHalf is the first IOVA of a first stage's upper half; for a second stage
// it is the middle of the space.
func topHalf(tbl *Table) uint64 {
	half := uint64(1) << (tbl.AddressWidth() - 1)
	if tbl.Stage() == FirstStage {
		return -half
	}
	return half
}

func lastIOVA(tbl *Table) uint64 { return topHalf(tbl) + 1<<(tbl.AddressWidth()-1) - 1 }

// Format case test_init: a new table maps nothing and knows its page sizes.
func TestKUnitInit(t *testing.T) {
	eachFormat(t, 4, func(t *testing.T, r *rig, tbl *Table) {
		if tbl.Levels() != (tbl.AddressWidth()-12)/9 || tbl.Stats() != (Stats{Tables: 1}) {
			t.Errorf("%d levels, %+v", tbl.Levels(), tbl.Stats())
		}
		if *r.mem.Entries(tbl.Root()) != [512]uint64{} {
			t.Error("the root is not empty")
		}
	})
}

// Format case test_bitops: which leaf fits, at the limits and at random,
// against the plain definition.
func TestKUnitBitops(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	values := []uint64{0, 1 << 63, 1<<64 - kib4}
	for i := 12; i < 64; i++ {
		values = append(values, 1<<i, ^uint64(0)<<i)
	}
	for range 32 {
		values = append(values, rng.Uint64()&^(kib4-1))
	}
	for _, a := range values {
		for _, b := range values {
			want := 0
			for level, size := range leafSizes {
				if a%size == b%size {
					want = level
				}
			}
			if got := leafLevel(a, b, superTop); got != want {
				t.Fatalf("leafLevel(%#x, %#x) = %d, want %d", a, b, got, want)
			}
		}
	}
}

// Format case test_best_pgsize: the largest leaf that alignment and size
// allow, in all combinations of prefixes.
func TestKUnitBestPageSize(t *testing.T) {
	aligned := []uint64{kib4, 3 * kib4, mib2 - kib4, mib2, 5 * mib2, gib1 - mib2, gib1, 3 * gib1, 7*gib1 + mib2 + kib4}
	eachFormat(t, 1100, func(t *testing.T, r *rig, tbl *Table) {
		for _, iova := range aligned {
			for _, bus := range aligned {
				for _, size := range []uint64{kib4, mib2, mib2 + kib4, gib1 + mib2} {
					mustMap(t, tbl, iova, bus, size, Read)
					want := uint64(kib4)
					for _, s := range leafSizes {
						if iova%s == 0 && bus%s == 0 && size >= s {
							want = s
						}
					}
					if l, ok := tbl.Lookup(iova); !ok || l != (Leaf{iova, bus, want, Read}) {
						t.Fatalf("map %#x -> %#x size %#x begins with %+v, want size %#x", iova, bus, size, l, want)
					}
					mustUnmap(t, tbl, iova, size)
				}
			}
		}
	})
}

// Format case test_table_ptr: a link keeps its address at every level, and
// clearing it leaves nothing.
func TestKUnitTablePointer(t *testing.T) {
	check := func(name string, link func(uint64) pte, isPresent func(pte) bool) {
		for i := 12; i < 52; i++ {
			for _, bus := range []uint64{1 << i, 1<<52 - 1<<i} {
				e := link(bus)
				if e.bus() != bus || !isPresent(e) || e.leaf(1) || e.leaf(4) {
					t.Errorf("%s: link to %#x is %#x", name, bus, e)
				}
			}
		}
		if isPresent(0) {
			t.Errorf("%s: zero is present", name)
		}
	}
	check("second", linkEntry[secondFormat], present[secondFormat])
	check("first", linkEntry[firstFormat], present[firstFormat])
}

// Format case test_max_va: the last page of each half can be mapped, the next one not.
func TestKUnitMaxVA(t *testing.T) {
	eachFormat(t, 16, func(t *testing.T, r *rig, tbl *Table) {
		first, last := topHalf(tbl), lastIOVA(tbl)
		mustMap(t, tbl, first, 0, kib4, Read)
		mustMap(t, tbl, last-kib4+1, 0, kib4, Read)
		bad := []uint64{last + 1}
		if tbl.Stage() == FirstStage {
			lower := uint64(1)<<(tbl.AddressWidth()-1) - kib4
			mustMap(t, tbl, lower, 0, kib4, Read)
			bad = []uint64{lower + kib4, first - kib4, 1 << 63}
		}
		for _, iova := range bad {
			if err := tbl.Map(iova, 0, kib4, Read); !isErr(err, ErrRange) {
				t.Errorf("map %#x: %v", iova, err)
			}
			if _, ok := tbl.Lookup(iova); ok {
				t.Errorf("%#x is mapped", iova)
			}
		}
		for _, l := range slices.Collect(tbl.All()) {
			if hw, ok, err := r.walker(tbl).translate(l.IOVA); !ok || err != nil || hw.iova != l.IOVA {
				t.Errorf("the unit translates %#x to %+v, %v, %v", l.IOVA, hw, ok, err)
			}
			mustUnmap(t, tbl, l.IOVA, l.Size)
		}
	})
}

// Format case test_table_radix: every bit of an IOVA is decoded by exactly one level.
func TestKUnitRadix(t *testing.T) {
	eachFormat(t, 1, func(t *testing.T, _ *rig, tbl *Table) {
		for bit := 12; bit < tbl.AddressWidth(); bit++ {
			levels := 0
			for level := range tbl.Levels() {
				levels += bits.OnesCount(uint(index(1<<bit, level)))
			}
			if levels != 1 {
				t.Errorf("bit %d is decoded %d times", bit, levels)
			}
		}
	})
}

// Format case test_entry_possible_sizes: no leaf but of 4 KiB, 2 MiB and 1 GiB,
// whatever is mapped.
func TestKUnitPossibleSizes(t *testing.T) {
	eachFormat(t, 8, func(t *testing.T, r *rig, tbl *Table) {
		size := min(uint64(1)<<(tbl.AddressWidth()-1), 512*gib1)
		mustMap(t, tbl, 0, 0, size, Read)
		for l := range tbl.All() {
			if l.Size != gib1 {
				t.Fatalf("%+v", l)
			}
		}
		mustUnmap(t, tbl, 0, size)
		for level := range tbl.Levels() {
			if got, want := pte(bitLeaf).leaf(level), level <= 2; got != want {
				t.Errorf("leaves at level %d: %v", level, got)
			}
		}
	})
}

// Format case test_entry_oa: every page size with output address 0, a test
// one, and the highest.
func TestKUnitOutputAddress(t *testing.T) {
	eachFormat(t, 8, func(t *testing.T, r *rig, tbl *Table) {
		for _, size := range leafSizes {
			for _, bus := range []uint64{0, 0x6_c000_0000, 1<<52 - size} {
				mustMap(t, tbl, 2*size, bus, size, Read|Write)
				for _, off := range []uint64{0, size / 2, size - 1} {
					hw, ok, err := r.walker(tbl).translate(2*size + off)
					if l, _ := tbl.Lookup(2*size + off); !ok || err != nil || hw.bus != bus || hw.size != size || l.Bus != bus {
						t.Errorf("size %#x at %#x: %+v, %v, %v, %+v", size, bus, hw, ok, err, l)
					}
				}
				mustUnmap(t, tbl, 2*size, size)
			}
		}
	})
}

// Format case test_attr_from_entry: every permission comes back as it was, and
// encodes to the same entry.
func TestKUnitAttributes(t *testing.T) {
	for level := range 3 {
		for prot := range Prot(4) {
			if allowed[secondFormat](prot) {
				e := leafEntry[secondFormat](gib1, prot, level)
				if leafEntry[secondFormat](gib1, protOf[secondFormat](e), level) != e || withProt[secondFormat](e, prot) != e {
					t.Errorf("second stage, level %d, %v: %#x", level, prot, e)
				}
			}
			if allowed[firstFormat](prot) {
				e := leafEntry[firstFormat](gib1, prot, level)
				if leafEntry[firstFormat](gib1, protOf[firstFormat](e), level) != e || withProt[firstFormat](e, prot) != e {
					t.Errorf("first stage, level %d, %v: %#x", level, prot, e)
				}
			}
		}
	}
}

// Format case test_dirty: a leaf of each size is clean, is marked by the unit,
// is reported, and is clean again.
func TestKUnitDirty(t *testing.T) {
	eachFormat(t, 8, func(t *testing.T, r *rig, tbl *Table) {
		a, d := uint64(1<<8), uint64(1<<9)
		if tbl.Stage() == FirstStage {
			a, d = 1<<5, 1<<6
		}
		var b Batch
		harvest := func(clear bool) (got []Access) {
			t.Helper()
			if err := tbl.Harvest(0, 4*gib1, clear, &b, func(a Access) { got = append(got, a) }); err != nil {
				t.Fatal(err)
			}
			return got
		}
		for i, size := range leafSizes {
			mustMap(t, tbl, uint64(i+1)*gib1, 0, size, Read|Write)
		}
		harvest(true) // a first stage's leaves are marked from the start
		if err := b.Release(); err != nil {
			t.Fatal(err)
		}
		if got := harvest(false); len(got) != 0 || !b.Empty() {
			t.Errorf("marked already: %+v", got)
		}
		for e := range tbl.Entries() {
			if e.Leaf {
				r.mem.Entries(e.Table)[e.Index] |= a
				if e.Size != mib2 {
					r.mem.Entries(e.Table)[e.Index] |= d
				}
			}
		}
		for _, clear := range []bool{false, true} {
			got := harvest(clear)
			if len(got) != 3 || b.Empty() == clear {
				t.Errorf("clear=%v: %+v; nothing to invalidate: %v", clear, got, b.Empty())
			}
			for i, g := range got {
				want := Access{Leaf{uint64(i+1) * gib1, 0, leafSizes[i], Read | Write}, true, leafSizes[i] != mib2}
				if g != want {
					t.Errorf("%+v, want %+v", g, want)
				}
			}
		}
		if first, last, _ := b.Range(); first != gib1 || last != 4*gib1-1 {
			t.Errorf("invalidate %#x to %#x", first, last)
		}
		if got := harvest(true); len(got) != 0 {
			t.Errorf("marked still: %+v", got)
		}
		mustUnmap(t, tbl, 0, 4*gib1)
	})
}

// IOMMU case test_increase_level: there is nothing to grow; a table has all of its
// levels from the start, and maps at the far end of each.
func TestKUnitEveryLevel(t *testing.T) {
	eachFormat(t, 32, func(t *testing.T, r *rig, tbl *Table) {
		for level := range tbl.Levels() {
			mustMap(t, tbl, span(level), gib1, kib4, Read)
		}
		for level := range tbl.Levels() {
			if l, ok, err := r.walker(tbl).translate(span(level) + 5); !ok || err != nil || l.bus != gib1 {
				t.Errorf("level %d: %+v, %v, %v", level, l, ok, err)
			}
			mustUnmap(t, tbl, span(level), kib4)
		}
	})
}

// IOMMU case test_map_simple: one mapping of every page size, every page of it
// looked up, counted, unmapped.
func TestKUnitMapSimple(t *testing.T) {
	eachFormat(t, 8, func(t *testing.T, _ *rig, tbl *Table) {
		base := topHalf(tbl)
		for i, size := range leafSizes {
			mustMap(t, tbl, base+uint64(i)*gib1, gib1, size, Read)
		}
		if s := tbl.Stats(); s.Leaves4K != 1 || s.Leaves2M != 1 || s.Leaves1G != 1 {
			t.Errorf("%+v", s)
		}
		for i, size := range leafSizes {
			for off := uint64(0); off < size; off += kib4 {
				if l, ok := tbl.Lookup(base + uint64(i)*gib1 + off); !ok || l.Size != size || l.Bus != gib1 {
					t.Fatalf("size %#x at %#x: %+v", size, off, l)
				}
			}
		}
		mustUnmap(t, tbl, base, 3*gib1)
		if s := tbl.Stats(); s != (Stats{Tables: 1}) {
			t.Errorf("left: %+v", s)
		}
	})
}

// IOMMU case test_map_table_to_oa: where small pages were, a larger one can go.
func TestKUnitTableToLeaf(t *testing.T) {
	eachFormat(t, 600, func(t *testing.T, _ *rig, tbl *Table) {
		base := topHalf(tbl)
		for i, size := range leafSizes[1:] {
			small := leafSizes[i]
			for off := uint64(0); off < size; off += small {
				mustMap(t, tbl, base+off, gib1+off^small, small, Read) // not in order
			}
			mustUnmap(t, tbl, base, size)
			mustMap(t, tbl, base, gib1, size, Write|Read)
			if l, _ := tbl.Lookup(base); l.Size != size {
				t.Errorf("%+v, want size %#x", l, size)
			}
			mustUnmap(t, tbl, base, size)
		}
	})
}

// IOMMU case test_unmap_split: unmapping a small page of a large leaf. Linux takes the whole
// leaf away; here it is cut, and nothing more goes than was asked for.
func TestKUnitUnmapSplit(t *testing.T) {
	eachFormat(t, 16, func(t *testing.T, r *rig, tbl *Table) {
		for _, large := range leafSizes[1:] {
			for _, at := range []uint64{0, mib2 / 2, large - kib4} {
				mustMap(t, tbl, gib1, 2*gib1, 2*large, Read)
				if n := mustUnmap(t, tbl, gib1+at, kib4); n != kib4 {
					t.Errorf("unmapped %#x", n)
				}
				for off := uint64(0); off < 2*large; off += kib4 {
					l, ok := tbl.Lookup(gib1 + off)
					if ok == (off == at) || ok && l.Bus-l.IOVA != gib1 {
						t.Fatalf("%#x of %#x, cut at %#x: %+v, %v", off, large, at, l, ok)
					}
				}
				if _, _, err := r.walker(tbl).scan(); err != nil {
					t.Error(err)
				}
				if l, _ := tbl.Lookup(gib1 + large); l.Size != large {
					t.Errorf("the next leaf is %+v", l)
				}
				mustUnmap(t, tbl, gib1, 2*large)
			}
		}
	})
}

// IOMMU case test_random_map: random ranges in 1 GiB of both halves, overlaps
// refused, against an oracle of pages.
func TestKUnitRandomMap(t *testing.T) {
	eachFormat(t, 1100, func(t *testing.T, r *rig, tbl *Table) {
		for _, base := range []uint64{0, lastIOVA(tbl) - gib1 + 1} {
			m := &mapper{t: t, tbl: tbl, rng: rand.New(rand.NewPCG(base, 3)), pages: map[uint64]page{}, holds: map[uint64]int{}}
			for i := range uint64(16) { // so that they meet
				m.owned = append(m.owned, Extent{base + i*31*mib2, 4 * mib2})
			}
			for range 1000 {
				m.step()
			}
			m.lookAll()
			for len(m.holds) > 0 {
				m.unhold()
			}
			m.release()
			if n := mustUnmap(t, tbl, base, gib1); n != uint64(len(m.pages))*kib4 {
				t.Errorf("unmapped %#x bytes, want %d pages", n, len(m.pages))
			}
		}
	})
}

// IOMMU case test_pgsize_boundary: the regression case.
func TestKUnitPageSizeBoundary(t *testing.T) {
	eachFormat(t, 8, func(t *testing.T, _ *rig, tbl *Table) {
		const iova, bus, size = 0xfef80000, 0x208b95d000, 0xff000000 - 0xfef80000
		mustMap(t, tbl, iova, bus, size, Read)
		if s := tbl.Stats(); s.Leaves4K != size/kib4 || s.Leaves2M+s.Leaves1G != 0 {
			t.Errorf("%+v", s)
		}
		mustUnmap(t, tbl, iova, size)
	})
}

// IOMMU case test_mixed: 14 x 2 MiB, 3 x 1 GiB, 3 x 2 MiB.
func TestKUnitMixed(t *testing.T) {
	eachFormat(t, 8, func(t *testing.T, r *rig, tbl *Table) {
		const first, end = 0x3fe400000, 0x4c0600000
		mustMap(t, tbl, first, first, end-first, Read|Write)
		leaves, _, err := r.walker(tbl).scan()
		var sizes []uint64
		for _, l := range leaves {
			sizes = append(sizes, l.size)
		}
		want := slices.Concat(slices.Repeat([]uint64{mib2}, 14), slices.Repeat([]uint64{gib1}, 3), slices.Repeat([]uint64{mib2}, 3))
		if err != nil || !slices.Equal(sizes, want) {
			t.Errorf("%#x, %v", sizes, err)
		}
		mustUnmap(t, tbl, first, end-first)
	})
}

// What a table costs: a page every 2 MiB of 1 GiB takes the tables that
// hardware needs and no more, and nothing stays. (Linux's suite looks for leaks at its end.)
func TestScatteredTables(t *testing.T) {
	eachFormat(t, 520, func(t *testing.T, r *rig, tbl *Table) {
		for _, order := range [][2]uint64{{1, 0}, {263, 7}} {
			for i := range uint64(512) {
				mustMap(t, tbl, gib1+(i*order[0]+order[1])%512*mib2, i*3*kib4, kib4, Read)
			}
			// No table of these could be missing: 2.0117 MiB with four levels.
			if n, want := tbl.Stats().Tables, 512+tbl.Levels()-1; n != want {
				t.Errorf("%d tables, want %d", n, want)
			}
			for i := range uint64(512) {
				mustUnmap(t, tbl, gib1+i*mib2, kib4)
			}
			if n := r.pool.Stats().InUse; n != 1 || tbl.Stats().Tables != 1 {
				t.Errorf("%d frames in use", n)
			}
		}
	})
}

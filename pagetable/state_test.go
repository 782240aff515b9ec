package pagetable

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"gommu/respool"
	"pgregory.net/rapid"
)

var allOptions = []Options{
	{},
	{Coherent: true},
	{AddressWidth: 39},
	{AddressWidth: 48, No1G: true},
	{AddressWidth: 39, No2M: true, Coherent: true},
	{AddressWidth: 57},
	{Stage: FirstStage},
	{Stage: FirstStage, AddressWidth: 57, Coherent: true},
	{Stage: FirstStage, AddressWidth: 57, No1G: true},
}

func (o Options) name() string {
	return fmt.Sprintf("%v,width=%d,coherent=%v,no2M=%v,no1G=%v,marks=%v", o.Stage, o.AddressWidth, o.Coherent, o.No2M, o.No1G, o.Marks)
}

// bases are where mappings are tried: the ends of the space, the borders of
// each level's tables, and places nearby so that requests collide.
func (m *model) bases() []uint64 {
	lower, upper := m.space()
	return []uint64{
		0, mib2 - kib4, mib2, 3 * mib2, gib1 - mib2, gib1, 2*gib1 - kib4, 0xfef80000, 512*gib1 - gib1,
		lower + 1 - gib1, lower + 1 - mib2, lower + 1 - kib4, lower + 1, lower/2 + 1, 1<<63 - mib2,
		upper - kib4, upper, upper + gib1 - mib2, 1<<64 - gib1, 1<<64 - mib2, 1<<64 - kib4,
	}
}

// sizes are in pages.
var sizes = []uint64{1, 1, 1, 2, 3, 7, 8, 9, 64, 511, 512, 512, 513, 1024, 3 * 512, 512 * 512, 512*512 + 1, 514 * 512}

// mostPages bounds a request that is mapped page by page, for the model's sake.
const mostPages = 3 * 512

// A random sequence of calls, right and wrong, against the model. The pool is
// small, so that it is often dry.
func TestTableStateMachine(t *testing.T) {
	coherent := make(map[bool][]Options)
	for _, o := range allOptions {
		coherent[o.Coherent] = append(coherent[o.Coherent], o)
	}
	for snoops, options := range coherent {
		t.Run(fmt.Sprintf("coherent=%v", snoops), func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				r := makeRig(t, rapid.IntRange(1, 40).Draw(rt, "frames"))
				opts := rapid.SampledFrom(options).Draw(rt, "options")
				opts.Marks = rapid.Bool().Draw(rt, "marks")
				m := newModel(rt, r, opts)
				rt.Repeat(actions(m))
				m.finish()
				r.close(t)
			})
		})
	}
}

// actions are the calls that may follow one another in any order.
func actions(m *model) map[string]func(*rapid.T) {
	at := rapid.SampledFrom(m.bases())
	near := rapid.Uint64Range(0, 20)
	size := rapid.SampledFrom(sizes)
	bus := rapid.SampledFrom([]uint64{0, gib1, 5 * mib2, 0x208b95d000, 1<<52 - gib1, 1<<52 - kib4, 1 << 52, 1<<64 - kib4})
	prot := rapid.SampledFrom([]Prot{Read, Write, Read | Write, Read | Write, 0, 4 | Read})
	crooked := rapid.SampledFrom([]uint64{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 8, 2048})
	place := func(rt *rapid.T) uint64 {
		return at.Draw(rt, "base") + near.Draw(rt, "page")*kib4 + crooked.Draw(rt, "off")
	}
	mapAny := func(rt *rapid.T) {
		iova, b, n := place(rt), bus.Draw(rt, "bus"), size.Draw(rt, "pages")
		if rapid.Bool().Draw(rt, "congruent") && !m.opts.No2M {
			b += iova % gib1 // superpages fit
		} else {
			n = min(n, mostPages)
		}
		m.doMap(iova, b+crooked.Draw(rt, "off"), n*kib4+crooked.Draw(rt, "more"), prot.Draw(rt, "prot"))
	}
	return map[string]func(*rapid.T){
		"map":   mapAny,
		"map2":  mapAny, // as likely as the unmaps
		"unmap": func(rt *rapid.T) { m.doUnmap(place(rt), size.Draw(rt, "pages")*kib4+crooked.Draw(rt, "more")) },
		"unmapLeaf": func(rt *rapid.T) {
			if len(m.leaves) == 0 {
				rt.Skip("nothing is mapped")
			}
			iova := rapid.SampledFrom(slices.Sorted(maps.Keys(m.leaves))).Draw(rt, "leaf")
			m.doUnmap(iova, m.leaves[iova].size)
		},
		"unmapAll": func(*rapid.T) {
			lower, upper := m.space()
			m.doUnmap(0, lower+1)
			if upper != 0 {
				m.doUnmap(upper, -upper)
			}
		},
		"protect": func(rt *rapid.T) {
			m.doProtect(place(rt), size.Draw(rt, "pages")*kib4+crooked.Draw(rt, "more"), prot.Draw(rt, "prot"))
		},
		"merge": func(rt *rapid.T) {
			iova, n := place(rt)&^(kib4-1), size.Draw(rt, "pages")*kib4
			if rapid.Bool().Draw(rt, "aligned") {
				iova, n = iova&^(gib1-1), gib1
			}
			if m.inSpace(iova, n) {
				m.doMerge(iova, n)
			}
		},
		"mapExtents": func(rt *rapid.T) {
			var list []Extent
			iova, at := place(rt), bus.Draw(rt, "bus")
			for range rapid.IntRange(1, 6).Draw(rt, "extents") {
				x := Extent{at, size.Draw(rt, "pages") % mostPages * kib4}
				list = append(list, x)
				if at += x.Size; rapid.Bool().Draw(rt, "apart") {
					at = bus.Draw(rt, "bus") + near.Draw(rt, "by")*kib4
				}
			}
			m.doMapExtents(iova, list, prot.Draw(rt, "prot"))
		},
		"cutAndMerge": func(rt *rapid.T) { // a merge that has something to do
			if len(m.leaves) == 0 {
				rt.Skip("nothing is mapped")
			}
			iova := rapid.SampledFrom(slices.Sorted(maps.Keys(m.leaves))).Draw(rt, "leaf")
			l := m.leaves[iova]
			m.doProtect(iova+l.size/512&^(kib4-1), kib4, l.prot)
			m.check()
			m.doMerge(iova&^(gib1-1), gib1)
		},
		"hold": func(rt *rapid.T) {
			iova, n, level := wholeTables(rt, at)
			m.doHold(iova, n+crooked.Draw(rt, "more"), level)
		},
		"unhold": func(rt *rapid.T) {
			iova, n, level := wholeTables(rt, at)
			m.doUnhold(iova, n+crooked.Draw(rt, "more"), level)
		},
		"mapHeld": func(rt *rapid.T) { // where superpages fit, but for held tables
			if len(m.holds) == 0 {
				rt.Skip("nothing is held")
			}
			h := rapid.SampledFrom(slices.SortedFunc(maps.Keys(m.holds), held.compare)).Draw(rt, "hold")
			first := rapid.Uint64Range(0, 2).Draw(rt, "before")
			iova := h.iova - first*mib2
			m.doMap(iova, iova%gib1, (first+rapid.Uint64Range(1, 3).Draw(rt, "after"))*mib2, Read)
		},
		"unholdOne": func(rt *rapid.T) {
			if len(m.holds) == 0 {
				rt.Skip("nothing is held")
			}
			h := rapid.SampledFrom(slices.SortedFunc(maps.Keys(m.holds), held.compare)).Draw(rt, "hold")
			m.doUnhold(h.iova, h.size(), h.level)
		},
		"unmark":    func(rt *rapid.T) { m.doUnmark(place(rt), size.Draw(rt, "pages")*kib4+crooked.Draw(rt, "more")) },
		"unmapNone": func(rt *rapid.T) { m.doUnmap(place(rt), 0) },
		"mapNone":   func(rt *rapid.T) { m.doMap(place(rt), 0, 0, Read) },
		"release":   func(*rapid.T) { m.doRelease() },
		"lookup": func(rt *rapid.T) {
			m.checkLookup(m.rig.walker(m.tbl), place(rt)+rapid.Uint64Range(0, 3*mib2).Draw(rt, "by"))
		},
		"": func(*rapid.T) { m.check() },
	}
}

// wholeTables draws a range that whole tables of a level translate, seldom of one that cannot be held.
func wholeTables(rt *rapid.T, at *rapid.Generator[uint64]) (iova, size uint64, level int) {
	level = rapid.SampledFrom([]int{0, 0, 0, 0, 0, 1, 1, 2, 3, 4, -1}).Draw(rt, "level")
	span := held{level: max(level, 0)}.size()
	return at.Draw(rt, "base") &^ (span - 1), rapid.Uint64Range(0, 3).Draw(rt, "tables") * span, level
}

// page is what the plainest oracle knows of one page.
type page struct {
	bus  uint64
	prot Prot
}

// Random ranges of pages in a window of 64 MiB, compared page by page with a
// map of pages: after 1000 steps, at both ends of the space and across tables.
func TestRandomPages(t *testing.T) {
	const window = 64 << 20
	for _, opts := range allOptions {
		for _, base := range []uint64{0, 512*gib1 - window, gib1 - window/2} {
			t.Run(fmt.Sprintf("%s/base=%#x", opts.name(), base), func(t *testing.T) {
				r := newRig(t, 64)
				tbl := r.table(t, opts)
				rng := rand.New(rand.NewPCG(base, 7))
				oracle := make(map[uint64]page)
				var b Batch
				for range 1000 {
					iova := base + rng.Uint64N(window/kib4)*kib4
					size := min((1+rng.Uint64N(1<<rng.Uint64N(11)))*kib4, base+window-iova)
					if rng.IntN(2) == 0 {
						step(t, tbl, oracle, iova, rng.Uint64N(1<<40)&^(kib4-1), size, Read|Prot(rng.IntN(2))<<1)
					} else if _, err := tbl.Unmap(iova, size, &b); err == nil {
						for off := uint64(0); off < size; off += kib4 {
							delete(oracle, iova+off)
						}
					}
					if err := b.Release(); err != nil {
						t.Fatal(err)
					}
				}
				w := r.walker(tbl)
				for iova := base; iova < base+window; iova += kib4 {
					p, mapped := oracle[iova]
					l, ok := tbl.Lookup(iova)
					if ok != mapped || ok && (l.Bus+iova-l.IOVA != p.bus || l.Prot != p.prot) {
						t.Fatalf("Lookup(%#x) = %+v, %v, want %+v, %v", iova, l, ok, p, mapped)
					}
					h, ok, err := w.translate(iova)
					if err != nil || ok != mapped || ok && h.bus+iova-h.iova != p.bus {
						t.Fatalf("the unit translates %#x to %+v, %v (%v), want %+v, %v", iova, h, ok, err, p, mapped)
					}
				}
				mustUnmap(t, tbl, base, window)
			})
		}
	}
}

// step maps, and expects what the pages say.
func step(t *testing.T, tbl *Table, oracle map[uint64]page, iova, bus, size uint64, prot Prot) {
	t.Helper()
	var wantErr error
	for off := uint64(0); off < size; off += kib4 {
		if _, ok := oracle[iova+off]; ok {
			wantErr = ErrOverlap
		}
	}
	err := tbl.Map(iova, bus, size, prot)
	if wantErr != nil {
		if !isErr(err, wantErr) {
			t.Fatalf("map %#x size %#x: %v, want %v", iova, size, err, wantErr)
		}
		return
	}
	if isErr(err, respool.ErrEmpty) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	for off := uint64(0); off < size; off += kib4 {
		oracle[iova+off] = page{bus + off, prot}
	}
}

package iova

import (
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// runs are the free runs, checked: in order, none touching the next, nodes summing up what is below them.
func (t *extents) runs(tb rapid.TB) []run {
	var all []run
	var walk func(i int32) (longest uint64, order int8)
	walk = func(i int32) (uint64, int8) {
		if i == 0 {
			return 0, -1
		}
		n := t.nodes[i]
		long, order := walk(n.left)
		all = append(all, n.run)
		long2, order2 := walk(n.right)
		longest, best := max(n.pages(), long, long2), max(slowOrder(n.run), order, order2)
		if n.longest != longest || n.order != best {
			tb.Fatalf("node of %v says %d pages and order %d, it is %d and %d", n.run, n.longest, n.order, longest, best)
		}
		for _, below := range []int32{n.left, n.right} {
			if below != 0 && t.nodes[below].prio > n.prio {
				tb.Fatalf("node of %v is below one of less priority", t.nodes[below].run)
			}
		}
		return longest, best
	}
	walk(t.root)
	pages := uint64(0)
	for i, r := range all {
		if pages += r.pages(); r.from >= r.to || i > 0 && r.from <= all[i-1].to {
			tb.Fatalf("runs are %v", all)
		}
	}
	if t.count != len(all) || t.free != pages {
		tb.Fatalf("%d runs of %d pages are counted as %d of %d", len(all), pages, t.count, t.free)
	}
	return all
}

func slowOrder(r run) int8 {
	for k := int8(51); ; k-- {
		if from := alignUp(r.from, 1<<k); from+1<<k <= r.to {
			return k
		}
	}
}

// A pageMap is an oracle for extents: which pages are free.
type pageMap []bool

func (m pageMap) runs() []run {
	var all []run
	for i, free := range m {
		switch p := uint64(i); {
		case !free:
		case len(all) > 0 && all[len(all)-1].to == p:
			all[len(all)-1].to++
		default:
			all = append(all, run{p, p + 1})
		}
	}
	return all
}

func (m pageMap) set(r run, free bool) {
	for p := r.from; p < r.to; p++ {
		m[p] = free
	}
}

func (m pageMap) all(r run) bool {
	return r.to <= uint64(len(m)) && !slices.Contains(m[r.from:r.to], false)
}

// find is the highest place for w by trying all.
func (m pageMap) find(w want) (uint64, bool) {
	for from := len(m); from >= 0; from-- {
		if m.fits(w, uint64(from)) {
			return uint64(from), true
		}
	}
	return 0, false
}

func (m pageMap) fits(w want, from uint64) bool {
	if from%w.align != 0 || from+w.pages > w.below || !m.all(run{from, from + w.pages}) {
		return false
	}
	return w.boundary == 0 || from/w.boundary == (from+w.body-1)/w.boundary
}

func drawWant(t *rapid.T, pages int) want {
	w := want{pages: uint64(rapid.IntRange(1, pages/2).Draw(t, "pages")), below: top}
	if rapid.Bool().Draw(t, "small") {
		w.pages = min(w.pages, 9)
	}
	w.body = w.pages
	if rapid.Bool().Draw(t, "guard") {
		w.pages++
	}
	w.align = 1 << rapid.IntRange(0, 6).Draw(t, "align")
	if rapid.Bool().Draw(t, "bound") {
		w.boundary = 1 << (bits.Len64(w.body-1) + rapid.IntRange(0, 2).Draw(t, "boundary"))
	}
	if rapid.Bool().Draw(t, "limited") {
		w.below = uint64(rapid.IntRange(1, pages+10).Draw(t, "below"))
	}
	return w
}

func TestExtentsAreThoseOfAPageMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const pages = 700
		tree, oracle := newExtents(), make(pageMap, pages)
		place := func() run {
			from := uint64(rapid.IntRange(0, pages-1).Draw(t, "from"))
			return run{from, min(from+uint64(rapid.IntRange(1, 40).Draw(t, "long")), pages)}
		}
		taken := func(r run) []run { // parts of r that are not free
			all := make(pageMap, pages)
			for p := r.from; p < r.to; p++ {
				all[p] = !oracle[p]
			}
			return all.runs()
		}
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				for _, r := range taken(place()) {
					tree.put(r)
					oracle.set(r, true)
				}
			},
			"takeAll": func(t *rapid.T) {
				r := place()
				held := make(pageMap, pages)
				for p := r.from; p < r.to; p++ {
					held[p] = oracle[p]
				}
				if got, want := tree.takeAll(r), held.runs(); !slices.Equal(got, want) {
					t.Fatalf("takeAll of %v is %v, free were %v", r, got, want)
				}
				oracle.set(r, false)
			},
			"take": func(t *rapid.T) {
				r := place()
				if got, want := tree.take(r), oracle.all(r); got != want {
					t.Fatalf("take of %v: %v, want %v", r, got, want)
				} else if got {
					oracle.set(r, false)
				}
			},
			"find": func(t *rapid.T) {
				w := drawWant(t, pages)
				got, ok := tree.find(w)
				want, wantOK := oracle.find(w)
				if ok != wantOK || ok && !oracle.fits(w, got) {
					t.Fatalf("find %+v: %d, %v; want %d, %v", w, got, ok, want, wantOK)
				}
				if ok && len(oracle.runs()) <= tries && got != want {
					t.Fatalf("find %+v: %d, the highest is %d", w, got, want)
				}
			},
			"": func(t *rapid.T) {
				if got, want := tree.runs(t), oracle.runs(); !slices.Equal(got, want) {
					t.Fatalf("runs are %v, want %v", got, want)
				}
			},
		})
	})
}

// Searches take a number of steps that grows with the logarithm of the runs, whatever their sizes, alignments and order.
func TestSearchIsNotLinear(t *testing.T) {
	steps := func(tree *extents, w want) uint64 {
		before := tree.steps
		if _, ok := tree.find(w); !ok {
			t.Fatalf("%+v: not found", w)
		}
		return tree.steps - before
	}
	const most = 400 // the 32 runs that are tried first, each a way down, are most of it
	for _, runs := range []int{1 << 10, 1 << 15} {
		for name, hole := range map[string]run{
			"too small":      {1, 2},
			"unaligned":      {1, 8},
			"of other sizes": {0, 4},
		} {
			tree := newExtents()
			tree.put(run{0, 64})
			tree.put(run{128, 192})
			dice := rand.New(rand.NewPCG(1, 2))
			for _, i := range dice.Perm(runs) {
				at := uint64(i+32) * 16
				tree.put(run{at + hole.from, at + hole.to})
			}
			for _, w := range []want{
				{pages: 8, body: 8, align: 8, below: top},
				{pages: 5, body: 5, align: 8, below: top},
				{pages: 16, body: 16, align: 16, below: top, boundary: 16},
				{pages: 7, body: 7, align: 16, below: uint64(8 * runs)},
				{pages: 9, body: 8, align: 8, below: top},
			} {
				if n := steps(tree, w); n > most {
					t.Errorf("%d holes that are %s: %+v took %d steps", runs, name, w, n)
				}
			}
		}
	}
}

package iova

import (
	"math"
	"math/bits"
)

// A want is what a search in extents looks for: pages in a row, the first of them a multiple of align, all
// below page below; the first body of them cross no multiple of boundary.
type want struct {
	pages, body     uint64 // body is pages less the guard page
	align, boundary uint64 // powers of two; boundary is not less than body, or 0 for none
	below           uint64
}

// tries is how many runs that are long enough, and do not fit for their alignment, a search looks at before it looks
// for a naturally aligned block.
const tries = 32

// find is the highest place for w. Among more than 32 runs that are long enough but do not fit it
// settles for the highest naturally aligned block that w fits into, if there is one, which takes one way down the
// tree; else it looks at all runs that are long enough.
func (t *extents) find(w want) (from uint64, ok bool) {
	t.searches++
	budget := tries
	if from, ok = t.search(t.root, w, 0, &budget); ok || budget > 0 {
		return from, ok
	}
	if order := bits.Len64(max(w.pages, w.align) - 1); order < 64 {
		budget = math.MaxInt
		if from, ok = t.search(t.root, w, int8(order), &budget); ok {
			return from, ok
		}
	}
	budget = math.MaxInt
	return t.search(t.root, w, 0, &budget)
}

// search is find among the runs of the tree i that have a block of order. It gives up when budget is
// used up.
func (t *extents) search(i int32, w want, order int8, budget *int) (uint64, bool) {
	for {
		t.steps++
		n := &t.nodes[i]
		if i == 0 || n.longest < w.pages || n.order < order {
			return 0, false
		}
		if n.from < w.below {
			if from, ok := t.search(n.right, w, order, budget); ok || *budget <= 0 {
				return from, ok
			}
			if n.pages() >= w.pages {
				if from, ok := w.fit(n.run); ok {
					return from, true
				}
				if *budget--; *budget <= 0 {
					return 0, false
				}
			}
		}
		i = n.left
	}
}

// fit is the highest place for w in r.
func (w want) fit(r run) (uint64, bool) {
	to := min(r.to, w.below)
	if to < r.from || to-r.from < w.pages {
		return 0, false
	}
	from := alignDown(to-w.pages, w.align)
	if last := from + w.body - 1; w.boundary != 0 && alignDown(from, w.boundary) != alignDown(last, w.boundary) {
		from = alignDown(alignDown(last, w.boundary)-w.body, w.align)
	}
	return from, from >= r.from
}

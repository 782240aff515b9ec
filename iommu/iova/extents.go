package iova

import "math/bits"

// A run is pages [from, to) of I/O address space.
type run struct{ from, to uint64 }

func (r run) pages() uint64 { return r.to - r.from }

// Extents are the free runs of a space, no two of which overlap or touch. They are a treap (Seidel and
// Aragon, "Randomized search trees", 1996) ordered by address, whose nodes lie in one slice and
// refer to each other by their index there. Each node knows what is the most that its subtree
// has to offer, so a search goes down one path.
type extents struct {
	nodes []extent // 0 is no node
	root  int32
	spare int32 // nodes without a run, linked by left
	dice  uint64
	count int
	free  uint64 // pages

	searches, steps uint64 // steps are nodes that searches looked at
}

type extent struct {
	run
	left, right int32
	prio        uint32
	order       int8   // the largest k such that a naturally aligned block of 2^k pages lies in a run of the subtree
	longest     uint64 // pages of the longest run of the subtree
}

func newExtents() *extents {
	return &extents{nodes: []extent{{order: -1}}, dice: 0x9e3779b97f4a7c15}
}

// orderOf is the largest k such that r has a naturally aligned block of 2^k pages.
func orderOf(r run) int8 {
	k := bits.Len64(r.pages()) - 1
	if size := uint64(1) << k; alignUp(r.from, size)+size > r.to {
		k-- // a run of 2^k pages has an aligned block of half as many
	}
	return int8(k)
}

func alignUp(n, to uint64) uint64   { return (n + to - 1) &^ (to - 1) }
func alignDown(n, to uint64) uint64 { return n &^ (to - 1) }

// make is a new node, a tree of its own.
func (t *extents) make(r run) int32 {
	i := t.spare
	if i != 0 {
		t.spare = t.nodes[i].left
	} else {
		i = int32(len(t.nodes))
		t.nodes = append(t.nodes, extent{})
	}
	t.dice ^= t.dice << 13
	t.dice ^= t.dice >> 7
	t.dice ^= t.dice << 17
	t.nodes[i] = extent{run: r, prio: uint32(t.dice >> 32)}
	t.sum(i)
	t.count++
	t.free += r.pages()
	return i
}

// drop disposes of a node that is a tree of its own.
func (t *extents) drop(i int32) {
	t.count--
	t.free -= t.nodes[i].pages()
	t.nodes[i] = extent{left: t.spare}
	t.spare = i
}

// sum works out what node i says of its subtree.
func (t *extents) sum(i int32) {
	n := &t.nodes[i]
	l, r := &t.nodes[n.left], &t.nodes[n.right]
	n.longest = max(n.pages(), l.longest, r.longest)
	n.order = max(orderOf(n.run), l.order, r.order)
}

// split parts the tree i into the runs that begin below page at and the others.
func (t *extents) split(i int32, at uint64) (below, above int32) {
	if i == 0 {
		return 0, 0
	}
	n := &t.nodes[i]
	if n.from < at {
		n.right, above = t.split(n.right, at)
		t.sum(i)
		return i, above
	}
	below, n.left = t.split(n.left, at)
	t.sum(i)
	return below, i
}

// join is one tree of two, the runs of a being below those of b.
func (t *extents) join(a, b int32) int32 {
	switch {
	case a == 0:
		return b
	case b == 0:
		return a
	case t.nodes[a].prio > t.nodes[b].prio:
		t.nodes[a].right = t.join(t.nodes[a].right, b)
		t.sum(a)
		return a
	default:
		t.nodes[b].left = t.join(a, t.nodes[b].left)
		t.sum(b)
		return b
	}
}

// last is the node of the highest run of the tree i.
func (t *extents) last(i int32) int32 {
	for t.nodes[i].right != 0 {
		i = t.nodes[i].right
	}
	return i
}

func (t *extents) first(i int32) int32 {
	for t.nodes[i].left != 0 {
		i = t.nodes[i].left
	}
	return i
}

// put adds a run none of which is free. It merges with the runs that it touches.
func (t *extents) put(r run) {
	if r.pages() == 0 {
		return
	}
	below, above := t.split(t.root, r.from)
	if i := t.last(below); i != 0 && t.nodes[i].to == r.from {
		r.from = t.nodes[i].from
		below, i = t.split(below, r.from)
		t.drop(i)
	}
	if i := t.first(above); i != 0 && t.nodes[i].from == r.to {
		r.to = t.nodes[i].to
		i, above = t.split(above, t.nodes[i].from+1)
		t.drop(i)
	}
	t.root = t.join(t.join(below, t.make(r)), above)
}

// takeAll takes out what is free of r, and returns it.
func (t *extents) takeAll(r run) []run {
	if r.pages() == 0 {
		return nil
	}
	var got []run
	below, rest := t.split(t.root, r.from)
	if i := t.last(below); i != 0 && t.nodes[i].to > r.from { // the run that r begins in
		var cut int32
		below, cut = t.split(below, t.nodes[i].from)
		rest = t.join(cut, rest)
	}
	mid, above := t.split(rest, r.to)
	for mid != 0 {
		i := t.first(mid)
		have := t.nodes[i].run
		i, mid = t.split(mid, have.from+1)
		t.drop(i)
		part := run{max(have.from, r.from), min(have.to, r.to)}
		got = append(got, part)
		if have.from < part.from {
			below = t.join(below, t.make(run{have.from, part.from}))
		}
		if part.to < have.to {
			above = t.join(t.make(run{part.to, have.to}), above)
		}
	}
	t.root = t.join(below, above)
	return got
}

// take takes r out, if all of it is free.
func (t *extents) take(r run) bool {
	i := t.root
	for i != 0 {
		n := &t.nodes[i]
		switch {
		case r.from < n.from:
			i = n.left
		case r.from >= n.to:
			i = n.right
		default:
			if r.to > n.to {
				return false
			}
			t.takeAll(r)
			return true
		}
	}
	return false
}

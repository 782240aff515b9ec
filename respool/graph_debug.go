//go:build debug

package respool

import (
	"strconv"
	"strings"
	"sync"
)

// The graph of the process's pools, kept as lockdep keeps one of locks: an edge from one
// pool to another where a goroutine that held elements of the first waited for the
// second. Goroutines that wait along a circle of edges may all wait for each other, even
// if they did not so far. Only edges are looked at, so each is looked at once.
var graph = struct {
	mu    sync.Mutex               // taken inside a ledger's, never around it
	holds map[uint64]map[*node]int // by goroutine: how many elements of which pool
	pools map[*node]bool           // those that somebody has held elements of, and that are open
}{holds: map[uint64]map[*node]int{}, pools: map[*node]bool{}}

// lineDebug is what a line knows of the graph.
type lineDebug struct{ node *node }

// A node is a pool.
type node struct {
	id      uint64
	name    string
	origin  func(goroutine uint64) trace // where that goroutine got an element that it has
	hears   bool                         // somebody does: Options.OnReport is set
	deliver func(Report)

	edges map[*node]edge // guarded by graph.mu, as gone
	gone  bool           // the pool is closed
}

// An edge is where a goroutine got what it held, and where it waited for more.
type edge struct{ got, waited trace }

func (n *node) String() string {
	if n.name == "" {
		return "#" + strconv.FormatUint(n.id, 10)
	}
	return strconv.Quote(n.name)
}

// hold notes that a goroutine has so many more elements of n, or fewer.
func (n *node) hold(goroutine uint64, more int) {
	graph.mu.Lock()
	defer graph.mu.Unlock()
	pools := graph.holds[goroutine]
	if n.gone || more == 0 {
		return
	}
	graph.pools[n] = true
	if pools == nil {
		pools = map[*node]int{}
		graph.holds[goroutine] = pools
	}
	if pools[n] += more; pools[n] <= 0 {
		delete(pools, n)
	}
	if len(pools) == 0 {
		delete(graph.holds, goroutine)
	}
}

// close forgets n.
func (n *node) close() {
	graph.mu.Lock()
	defer graph.mu.Unlock()
	n.gone, n.edges = true, nil
	delete(graph.pools, n)
	for other := range graph.pools {
		delete(other.edges, n)
	}
	for goroutine, pools := range graph.holds {
		if delete(pools, n); len(pools) == 0 {
			delete(graph.holds, goroutine)
		}
	}
}

// mayWait is called before a wait in line l.
func mayWait(l *line) {
	to, waited := l.debug.node, here()
	for _, from := range strangers(waited.goroutine, to) {
		got := from.origin(waited.goroutine) // not under graph.mu
		if circle := connect(from, to, edge{got, waited}); circle != nil {
			reportCircle(circle)
		}
	}
}

// strangers are the pools that a goroutine has elements of and that have no edge to n.
func strangers(goroutine uint64, n *node) (found []*node) {
	graph.mu.Lock()
	defer graph.mu.Unlock()
	for from := range graph.holds[goroutine] {
		if _, known := from.edges[n]; !known {
			found = append(found, from)
		}
	}
	return found
}

// connect adds an edge. If that closes a circle, it returns its pools, beginning with to.
func connect(from, to *node, e edge) []*node {
	graph.mu.Lock()
	defer graph.mu.Unlock()
	if _, known := from.edges[to]; known || from.gone || to.gone {
		return nil
	}
	if from.edges == nil {
		from.edges = map[*node]edge{}
	}
	from.edges[to] = e
	return way(to, from, map[*node]bool{})
}

// way is how from leads to to, both included.
func way(from, to *node, seen map[*node]bool) []*node {
	if from == to {
		return []*node{to}
	}
	seen[from] = true
	for next := range from.edges {
		if seen[next] {
			continue
		}
		if rest := way(next, to, seen); rest != nil {
			return append([]*node{from}, rest...)
		}
	}
	return nil
}

// reportCircle tells the first pool of the circle that has somebody to hear it.
func reportCircle(circle []*node) {
	r := Report{Kind: PoolCycle, Pool: circle[0].name}
	names := make([]string, 0, len(circle)+1)
	graph.mu.Lock()
	for i, from := range circle {
		to := circle[(i+1)%len(circle)]
		e := from.edges[to]
		names = append(names, from.String())
		r.Stacks = append(r.Stacks, e.got.stack("got of "+from.String()), e.waited.stack("waited for "+to.String()))
	}
	graph.mu.Unlock()
	r.Detail = strings.Join(append(names, circle[0].String()), " -> ")
	for _, n := range circle {
		if n.hears {
			n.deliver(r)
			return
		}
	}
	circle[0].deliver(r)
}

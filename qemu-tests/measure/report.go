package measure

import (
	"fmt"
	"slices"
)

// A Report is what was measured on a machine, or on several that are compared.
type Report struct {
	Rung    string   `json:"rung"`
	Machine string   `json:"machine"`
	Rows    []Row    `json:"rows"`
	Clocks  []Clock  `json:"clocks"`
	Held    []Held   `json:"held"`
	Targets []Target `json:"targets"`
}

// A Row is one thing that was done over and over, by one way. Times are nanoseconds of
// one such call.
type Row struct {
	Name   string  `json:"name"`   // "map+unmap 4K", "map 4K", …
	Policy string  `json:"policy"` // when unmapped memory becomes unreachable
	Peer   string  `json:"peer"`   // what it is compared with; a row of the peer names itself
	P50    float64 `json:"ns_p50"`
	P99    float64 `json:"ns_p99"`
	P9999  float64 `json:"ns_p9999"`
	Allocs float64 `json:"allocs"` // on the Go heap, of a pair
	Ratio  float64 `json:"ratio"`  // of the medians, this one over the peer

	Way       string    `json:"way"` // who mapped: "own tables", "VFIO ioctls", …
	Threads   int       `json:"threads"`
	Neighbour Neighbour `json:"neighbour"`
	P999      float64   `json:"ns_p999"`
	Max       float64   `json:"ns_max"`
	Mean      float64   `json:"ns_mean"`    // wall time of a pair by one goroutine, all included; 0 where only medians are taken
	PerSecond float64   `json:"per_s"`      // pairs, by all goroutines together
	Refused   float64   `json:"refused"`    // share of Maps that were refused because a pool was dry at that moment
	Drained   int64     `json:"drained"`    // how often the storm beside had emptied a pool
	Group     int       `json:"group"`      // pairs of a time that the median is of
	Samples   int64     `json:"samples"`    // single calls that the percentiles above it are of
	Shape     string    `json:"shape"`      // what was mapped
	BytesHeld int64     `json:"bytes_held"` // by the way's pools, records and tables; 0 is not known
}

// Held is memory that a way holds.
type Held struct {
	Way   string `json:"way"`
	What  string `json:"what"`
	Bytes int64  `json:"bytes"`
}

// rows are the rows of a cell.
func (r *record) rows() []Row {
	c := r.cell
	row := func(what string, grouped times, each int, single times) Row {
		g, s := grouped.figures(each), single.figures(1)
		if s.n == 0 {
			s = g
		}
		if g.n == 0 { // each group met a dry pool
			g, each = s, 1
		}
		return Row{
			Name: what + " " + c.Shape.Name, Policy: c.Policy, Way: c.Name, Threads: c.threads(), Neighbour: c.Neighbour,
			P50: g.p50, P99: s.p99, P999: s.p999, P9999: s.p9999, Max: s.max, Samples: s.n,
			Allocs: r.allocs, Shape: c.Shape.Name, Group: each, Drained: r.dry, Refused: share(r.refusedOne, r.oneMap.h.TotalCount()),
		}
	}
	pair := row("map+unmap", r.pairs, r.group, r.onePair)
	pair.Refused = share(r.refused+r.refusedOne, r.done+r.refused+r.oneMap.h.TotalCount())
	if r.done > 0 && r.elapsed > 0 {
		pair.PerSecond = float64(r.done) / float64(r.elapsed) * 1e9
		pair.Mean = 1e9 / pair.PerSecond * float64(c.threads())
	}
	if c.PairsOnly {
		return []Row{pair}
	}
	return []Row{pair, row("map", r.maps, c.Shape.slots(), r.oneMap), row("unmap", r.unmaps, c.Shape.slots(), r.oneUn)}
}

func share(n, of int64) float64 {
	if of == 0 {
		return 0
	}
	return float64(n) / float64(of)
}

// Join is one report of several parts, in which each row is compared with one of the way that
// is called peer. Rows of that way are compared with themselves.
func Join(rung, machine, peer string, parts ...Report) (Report, error) {
	all := Report{Rung: rung, Machine: machine, Rows: []Row{}, Held: []Held{}}
	for _, p := range parts {
		all.Rows = append(all.Rows, p.Rows...)
		all.Clocks = append(all.Clocks, p.Clocks...)
		all.Held = append(all.Held, p.Held...)
	}
	for i := range all.Rows {
		if err := all.compare(&all.Rows[i], peer); err != nil {
			return Report{}, err
		}
	}
	all.Targets = all.targets()
	return all, nil
}

// compare fills in a row's peer and ratio.
func (all *Report) compare(r *Row, peer string) error {
	p := r
	if r.Way != peer && r.Way != LoopName {
		best := -1
		for i := range all.Rows {
			if is := &all.Rows[i]; is.Way == peer && is.Name == r.Name && likeness(is, r) > best {
				p, best = is, likeness(is, r)
			}
		}
		if best < 0 {
			return &Error{Op: "compare " + r.Way + ", " + r.Policy + ": " + r.Name, Err: fmt.Errorf("%w %q", ErrPeer, peer)}
		}
	}
	r.Peer = p.Label()
	if p.P50 > 0 {
		r.Ratio = r.P50 / p.P50
	}
	return nil
}

// OwnPeer says that the row is compared with itself: it is of the peer, or of the empty loop.
func (r *Row) OwnPeer() bool { return r.Peer == r.Label() }

// Label names a row without what was done.
func (r *Row) Label() string {
	s := r.Way
	if r.Policy != "" && r.Policy != r.Way {
		s += ", " + r.Policy
	}
	if r.Threads > 1 {
		s += fmt.Sprintf(", %d goroutines", r.Threads)
	}
	if r.Neighbour != Idle {
		s += ", beside " + string(r.Neighbour)
	}
	return s
}

// likeness says how well a row of the peer serves for another row: the same
// number of goroutines counts most, then the neighbour, then the policy.
func likeness(peer, r *Row) (n int) {
	if peer.Threads == r.Threads {
		n += 16
	} else if peer.Threads == 1 {
		n += 8
	}
	if peer.Neighbour == r.Neighbour {
		n += 4
	} else if peer.Neighbour == Idle {
		n += 2
	}
	if peer.Policy == r.Policy || peer.Policy == "batched" && r.Policy == "ring" {
		n++
	}
	return n
}

// find is the first row that is like that.
func (all *Report) find(way, policy, name string, threads int, n Neighbour) (*Row, bool) {
	i := slices.IndexFunc(all.Rows, func(r Row) bool {
		return r.Way == way && r.Policy == policy && r.Name == name && r.Threads == threads && r.Neighbour == n
	})
	if i < 0 {
		return nil, false
	}
	return &all.Rows[i], true
}

package measure

import (
	"context"
	"errors"
	"time"
)

// A Cell is one thing to measure: a way, what it maps, and what else runs meanwhile.
type Cell struct {
	Way       Way
	Name      string // of the way: "own tables", "VFIO ioctls"
	Policy    string // when unmapped memory becomes unreachable: "strict", "batched", …
	Shape     Shape
	Burst     int // pairs that one flush is for; 0 is 1
	Threads   int // goroutines that map; 0 is 1
	Neighbour Neighbour
	// PairsOnly leaves Map and Unmap by themselves out, and single calls.
	PairsOnly bool
}

func (c *Cell) threads() int { return max(c.Threads, 1) }
func (c *Cell) burst() int   { return max(c.Burst, 1) }

// String names the cell for progress and errors.
func (c *Cell) String() string {
	r := Row{Way: c.Name, Policy: c.Policy, Threads: c.threads(), Neighbour: c.Neighbour}
	return r.Label() + ": " + c.Shape.Name
}

// A record is what was found of a cell so far, over all rounds.
type record struct {
	cell   *Cell
	clock  int64
	group  int // pairs of a group
	allocs float64

	pairs, maps, unmaps    times // in groups
	onePair, oneMap, oneUn times // single calls
	done, refused          int64 // pairs, and maps refused, of the groups of pairs
	elapsed                int64 // ns, of the same
	refusedOne             int64
	dry                    int64 // rounds of a storm that had found a pool dry
}

func newRecord(c *Cell, clock Clock) *record {
	r := &record{cell: c, clock: int64(clock.Cost + 0.5)}
	for _, t := range r.all() {
		*t = newTimes(r.digits())
	}
	return r
}

// digits keeps the histograms of many goroutines small.
func (r *record) digits() int {
	if r.cell.threads() > 2 {
		return 2
	}
	return 3
}

func (r *record) all() []*times {
	return []*times{&r.pairs, &r.maps, &r.unmaps, &r.onePair, &r.oneMap, &r.oneUn}
}

// slots is how many mappings of a shape a worker has at a time, and groups of Maps alone have: 64, but
// less than 64 MiB.
func (s Shape) slots() int { return max(1, min(64, (64<<20-1)/s.Bytes())) }

// measure takes about the budget, and adds to what is there.
func (r *record) measure(ctx context.Context, p *Plan, budget time.Duration) (err error) {
	c := r.cell
	lanes := make([]*lane, 0, c.threads())
	defer func() {
		for _, l := range lanes {
			err = errors.Join(err, l.w.Close())
		}
		if err != nil {
			err = &Error{Op: c.String(), Err: err}
		}
	}()
	for i := range c.threads() {
		w, err := c.Way.Worker(ctx, c.Shape, i, c.Shape.slots())
		if err != nil {
			return err
		}
		lanes = append(lanes, newLane(r, w, p))
	}
	if err := r.prepare(ctx, lanes[0], budget); err != nil {
		return err
	}
	beside, err := c.Neighbour.start(ctx, c)
	if err != nil {
		return err
	}
	err = r.phases(ctx, lanes, budget)
	dry, serr := beside.stop()
	r.dry += dry
	err = errors.Join(err, serr)
	for _, l := range lanes {
		r.gather(l)
	}
	return err
}

// prepare lets pools and caches come to rest, finds the size of a group, and counts
// allocations.
func (r *record) prepare(ctx context.Context, l *lane, budget time.Duration) error {
	if err := l.warm(ctx, budget/10); err != nil {
		return err
	}
	if r.group == 0 {
		r.group = r.groupSize(l)
		allocs, err := l.allocations(ctx)
		if err != nil {
			return err
		}
		r.allocs = allocs
	}
	l.found.refused = 0
	return nil
}

// groupSize is how many pairs make a group: a multiple of a burst, and so many
// that the clock is a hundredth of it, but not more than 10 ms.
func (r *record) groupSize(l *lane) int {
	burst := r.cell.burst()
	begin := now()
	if l.pairsOf(burst); l.err != nil {
		return burst
	}
	one := max(now()-begin, 1)
	n := (200*r.clock + one - 1) / one
	most := max(10_000_000/one, 1)
	return burst * int(min(max(n, 1), most))
}

// phases are groups of pairs, then Maps and Unmaps alone, then single calls.
func (r *record) phases(ctx context.Context, lanes []*lane, budget time.Duration) error {
	if r.cell.PairsOnly {
		return r.groups(ctx, lanes, budget)
	}
	if err := r.groups(ctx, lanes, budget/3); err != nil {
		return err
	}
	if err := together(ctx, lanes, budget/6, (*lane).burstGroup); err != nil {
		return err
	}
	return together(ctx, lanes, budget/2, (*lane).singles)
}

// groups tell the throughput, too.
func (r *record) groups(ctx context.Context, lanes []*lane, budget time.Duration) error {
	begin := now()
	err := together(ctx, lanes, budget, (*lane).pairGroup)
	r.elapsed += now() - begin
	return err
}

// gather takes over what a lane has found.
func (r *record) gather(l *lane) {
	for i, t := range l.found.all() {
		r.all()[i].merge(*t)
	}
	r.done += l.found.done
	r.refused += l.found.refused
	r.refusedOne += l.found.refusedOne
}

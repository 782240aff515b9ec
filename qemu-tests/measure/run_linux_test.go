package measure

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"gommu/internal/held"
	"gommu/iommu"
)

// little is a plan of some samples.
func little(cells ...Cell) Plan {
	return Plan{Cells: cells, Budget: 10 * time.Second, Samples: 3}
}

func (f *fake) cell() Cell {
	return Cell{Way: f, Name: "fake", Policy: "none", Shape: Page, Burst: f.burst}
}

// settled is what holds after any Run.
func (f *fake) settled(t *testing.T) {
	t.Helper()
	if f.open != 0 || len(f.wrong) > 0 {
		t.Errorf("%d of %d workers are open; %v", f.open, f.opened, f.wrong)
	}
}

// TestRun: what is mapped is unmapped, flushes come when they have to, and each figure has its row.
func TestRun(t *testing.T) {
	before := held.Now(t)
	for i, burst := range []int{0, 1, 3, 64, 100, 0, 1, 3, 64, 100} {
		f := &fake{burst: burst, pairer: i >= 5}
		var steps []string
		p := little(f.cell())
		p.Rounds, p.Before, p.After = 2, 5, 7
		p.Progress = func(done, of int, what string) {
			steps = append(steps, what)
			if done != 5+len(steps)-1 || of != 14 {
				t.Errorf("step %d of %d", done, of)
			}
		}
		r, err := Run(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		f.settled(t)
		deepest := max(burst, 1)
		if f.pairer && deepest == 1 {
			deepest = f.deepest // nothing waits for a flush then
		}
		if f.mapped != 0 || f.deepest != deepest || f.opened != 2 || len(steps) != 2 || steps[0] != "fake, none: 4K" {
			t.Errorf("burst %d: %d mapped, flushed after %d, %d workers, steps %q", burst, f.mapped, f.deepest, f.opened, steps)
		}
		if len(r.Rows) != 3 || len(r.Clocks) != 1 || r.Clocks[0].Cost <= 0 {
			t.Fatalf("burst %d: %+v", burst, r)
		}
		for i, name := range []string{"map+unmap 4K", "map 4K", "unmap 4K"} {
			row := r.Rows[i]
			if row.Name != name || row.Way != "fake" || row.Policy != "none" || row.Shape != "4K" || row.Threads != 1 || row.Neighbour != Idle {
				t.Errorf("row %d is %+v", i, row)
			}
			if row.P50 <= 0 || row.P99 > row.P999 || row.P999 > row.P9999 || row.P9999 > row.Max || row.Samples != 2*64 || row.Refused != 0 || row.Allocs != 0 {
				t.Errorf("burst %d: %+v", burst, row)
			}
		}
		if pair := r.Rows[0]; pair.Group%max(burst, 1) != 0 || pair.PerSecond <= 0 || pair.Mean <= 0 {
			t.Errorf("burst %d: %+v", burst, pair)
		}
	}
	held.Check(t, before)
}

// TestRefused: refused Maps are counted and tried again, their share is told, and a pool that stays dry is an
// error.
func TestRefused(t *testing.T) {
	for _, pairer := range []bool{false, true} {
		f := &fake{dryEach: 4, pairer: pairer}
		r, err := Run(t.Context(), little(f.cell()))
		if err != nil {
			t.Fatal(err)
		}
		f.settled(t)
		for _, row := range r.Rows[:2] {
			if row.Refused < 0.2 || row.Refused > 0.3 {
				t.Errorf("%s: %g refused, want a quarter", row.Name, row.Refused)
			}
		}
		dry := &fake{dry: true, pairer: pairer}
		p := little(dry.cell())
		p.Patience = time.Nanosecond
		_, err = Run(t.Context(), p)
		var e *Error
		if !errors.Is(err, ErrDry) || !errors.Is(err, iommu.ErrEmpty) || !errors.As(err, &e) || !strings.Contains(err.Error(), "fake, none: 4K") {
			t.Errorf("a pool that stays dry: %v", err)
		}
		dry.settled(t)
	}
}

// TestClockTakenOff: what reading the clock costs is no part of single calls, and groups are as they are.
func TestClockTakenOff(t *testing.T) {
	f := &fake{}
	c, p := f.cell(), Plan{Budget: time.Second, Samples: 2, Patience: time.Second}
	r := newRecord(&c, Clock{Cost: 1e12})
	if err := r.measure(t.Context(), &p, p.Budget); err != nil {
		t.Fatal(err)
	}
	for _, row := range r.rows() {
		if row.P50 <= 0 || row.Max != 0 {
			t.Errorf("with a clock that costs more than all: %+v", row)
		}
	}
}

// TestAllocations: what the calls allocate is told.
func TestAllocations(t *testing.T) {
	f := &fake{allocate: true}
	r, err := Run(t.Context(), little(f.cell()))
	if err != nil || r.Rows[0].Allocs != 1 {
		t.Errorf("%v, %+v", err, r.Rows)
	}
}

// TestCrowd: many goroutines have a worker each, and their pairs are counted together.
func TestCrowd(t *testing.T) {
	before := held.Now(t)
	f := &fake{burst: 2}
	c := f.cell()
	c.Threads, c.PairsOnly = 8, true
	r, err := Run(t.Context(), little(c))
	if err != nil {
		t.Fatal(err)
	}
	f.settled(t)
	if len(r.Rows) != 1 || r.Rows[0].Threads != 8 || r.Rows[0].Samples != 24 || f.opened != 8 {
		t.Errorf("%d workers, %+v", f.opened, r.Rows)
	}
	held.Check(t, before)
}

// TestNeighbours: a storm takes all that there is beside the calls that are measured, and
// neighbours end with the cell.
func TestNeighbours(t *testing.T) {
	before := held.Now(t)
	for _, n := range []Neighbour{Collector, Storm, Everything} {
		f := &fake{room: 100}
		c := f.cell()
		c.Neighbour = n
		p := Plan{Cells: []Cell{c}, Budget: 50 * time.Millisecond}
		r, err := Run(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		f.settled(t)
		storm := n != Collector
		if f.mapped != 0 || (f.most == 100) != storm || (r.Rows[0].Drained > 0) != storm || r.Rows[0].Neighbour != n {
			t.Errorf("%s: %d mapped, %d at most, %+v", n, f.mapped, f.most, r.Rows[0])
		}
	}
	held.Check(t, before)
}

// TestFailures has each call fail in turn: the error comes back, and all workers are closed.
func TestFailures(t *testing.T) {
	before := held.Now(t)
	for _, call := range []string{"worker", "map", "unmap", "flush", "close"} {
		for _, n := range []int{0, 1, 2, 7, 300} {
			f := &fake{room: 1000, pairer: n%2 == 1, fail: func(name string, i int) error {
				if name == call && i == n {
					return errInjected
				}
				return nil
			}}
			c := f.cell()
			c.Threads, c.Neighbour = 2, Storm
			_, err := Run(t.Context(), little(c))
			if f.calls[call] > n && (!errors.Is(err, errInjected) || !strings.Contains(err.Error(), "beside storm")) {
				t.Errorf("%s %d fails: %v", call, n, err)
			}
			if f.open != 0 {
				t.Errorf("%s %d fails: %d of %d workers are open", call, n, f.open, f.opened)
			}
		}
	}
	held.Check(t, before)
}

// TestEnds: a context that ends, ends all.
func TestEnds(t *testing.T) {
	before := held.Now(t)
	ctx, cancel := context.WithCancel(t.Context())
	f := &fake{}
	f.fail = func(name string, n int) error {
		if name == "map" && n == 1000 {
			cancel()
		}
		return nil
	}
	p := Plan{Cells: []Cell{f.cell(), f.cell()}, Budget: time.Hour}
	if _, err := Run(ctx, p); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	f.settled(t)
	held.Check(t, before)
}

// TestBudget: the budget of a cell shrinks when the whole gets short, and never below nothing.
func TestBudget(t *testing.T) {
	p := Plan{Budget: 4, Total: 20}
	for _, c := range []struct {
		since time.Duration
		left  int
		want  time.Duration
	}{{0, 3, 4}, {10, 5, 2}, {20, 1, 0}, {100, 3, 0}} {
		if got := p.budget(c.since, c.left); got != c.want {
			t.Errorf("after %d with %d left: %d, want %d", c.since, c.left, got, c.want)
		}
	}
	p.Total = 0
	if got := p.budget(time.Hour, 1); got != 4 {
		t.Errorf("without a bound: %d", got)
	}
}

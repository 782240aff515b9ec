package measure

import (
	"context"
	"runtime"
	"time"
)

// A Plan is what to measure on one machine.
type Plan struct {
	Cells  []Cell
	Budget time.Duration // for each cell in each round; what calls take may stretch it
	Rounds int           // the cells are measured in turn, so often; 0 is 1
	// Total bounds the whole: where it gets short, budgets shrink, so that each cell is measured at least a
	// little. 0 is no bound.
	Total time.Duration
	// Samples bounds how many times of each kind a round takes, for tests; 0 is no
	// bound.
	Samples int
	// Patience bounds how long a pool may stay dry; 0 is 20 seconds. A storm empties it for
	// milliseconds.
	Patience time.Duration
	// Before and After are steps that are not of this plan, for Progress.
	Before, After int
	// Progress is told before each cell is measured; it may be nil.
	Progress func(done, of int, what string)
}

// Steps is how often Run calls Progress.
func (p Plan) Steps() int { return len(p.Cells) * max(p.Rounds, 1) }

// Run measures. It blocks, and ends early when ctx does. Rows have no peers yet: see Join.
func Run(ctx context.Context, p Plan) (Report, error) {
	if p.Patience == 0 {
		p.Patience = 20 * time.Second
	}
	clock := ReadClock()
	records := make([]*record, len(p.Cells))
	for i := range p.Cells {
		records[i] = newRecord(&p.Cells[i], clock)
	}
	step, begin := 0, time.Now()
	for range max(p.Rounds, 1) {
		for _, r := range records {
			if p.Progress != nil {
				p.Progress(p.Before+step, p.Before+p.Steps()+p.After, r.cell.String())
			}
			budget := p.budget(time.Since(begin), p.Steps()-step)
			step++
			runtime.GC() // what the cells before left
			if err := r.measure(ctx, &p, budget); err != nil {
				return Report{}, err
			}
		}
	}
	out := Report{Clocks: []Clock{clock}}
	for _, r := range records {
		out.Rows = append(out.Rows, r.rows()...)
	}
	return out, nil
}

// budget is that of the next of so many cells, after some time.
func (p *Plan) budget(since time.Duration, left int) time.Duration {
	if p.Total == 0 {
		return p.Budget
	}
	return max(0, min(p.Budget, (p.Total-since)/time.Duration(left)))
}

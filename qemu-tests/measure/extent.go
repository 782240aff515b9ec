package measure

import "time"

// An Extent is how much to measure. The zero value is for figures that are to be
// quoted.
type Extent struct {
	Short    bool          // once instead of three times, fewer neighbours, less time for each figure
	Budget   time.Duration // for each cell in each round; 0 is the usual
	Samples  int           // see Plan; 0 is no bound
	Progress func(done, of int, what string)
}

func (e Extent) plan(cells []Cell) Plan {
	p := Plan{Cells: cells, Budget: 600 * time.Millisecond, Rounds: 3, Samples: e.Samples, Progress: e.Progress}
	if e.Short {
		p.Budget, p.Rounds, p.Total = 150*time.Millisecond, 1, 6*time.Second
	}
	if e.Budget != 0 {
		p.Budget = e.Budget
	}
	return p
}

// neighbours are what a way is measured beside.
func (e Extent) neighbours() []Neighbour {
	if e.Short {
		return []Neighbour{Everything}
	}
	return []Neighbour{Collector, Storm, Everything}
}

// crowds are numbers of goroutines beyond one.
var crowds = []int{2, 64}

// A family is a way with what its cells have in common.
type family struct {
	way    Way
	name   string
	policy string
	burst  int
	shapes []Shape
}

func (f family) cell(s Shape) Cell {
	return Cell{Way: f.way, Name: f.name, Policy: f.policy, Shape: s, Burst: f.burst}
}

// each is a cell for each shape.
func (f family) each() (all []Cell) {
	for _, s := range f.shapes {
		all = append(all, f.cell(s))
	}
	return all
}

// beside is a cell of pages for each neighbour.
func (f family) beside(neighbours []Neighbour) (all []Cell) {
	for _, n := range neighbours {
		c := f.cell(Page)
		c.Neighbour = n
		all = append(all, c)
	}
	return all
}

// crowded is a cell of pages for one goroutine and each crowd, of the same kind.
func (f family) crowded() (all []Cell) {
	for _, n := range crowds {
		c := f.cell(Page)
		c.Threads, c.PairsOnly = n, true
		all = append(all, c)
	}
	return all
}

// Bursts of the policies: pairs that one flush is for.
const (
	batchBurst = 256 // iommu.Flush's default
	ringBurst  = 64
)

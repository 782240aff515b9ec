package scenario

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A Scenario is a situation that a thread argued over, and the ways to go about it.
type Scenario struct {
	Name  string
	Asked string // what the thread asked, in one or two sentences
	ways  []way
}

// A way is how tasks go about the work of a scenario.
type way struct {
	under Discipline
	name  string
	want  Verdict
	shows string // what it shows when it ends as it says
	play  func(*run) error
}

// A Discipline is the order in which the pool and the allocator are asked.
type Discipline string

// The disciplines that scenarios are run under.
const (
	PoolFirst      Discipline = "pool-first"      // respool.Pool
	AllocatorFirst Discipline = "allocator-first" // Linux's mempool
)

// Disciplines lists all of them.
func Disciplines() []Discipline { return []Discipline{PoolFirst, AllocatorFirst} }

var (
	// ErrUnknown is the error for a name that no scenario or discipline has.
	ErrUnknown = errors.New("no such name")

	errRevived = errors.New("a task that could not get on got on")
)

// All returns the scenarios, in the order of the threads.
func All() []Scenario {
	return []Scenario{stampede(), raid1(), netack(), abc(), noalloc(), outpaced(), stack(), aperture()}
}

// Find returns the scenarios with these names, in this order, or all for no names. The error
// for a name that none has lists those that there are.
func Find(names ...string) ([]Scenario, error) {
	all := All()
	if len(names) == 0 {
		return all, nil
	}
	var found []Scenario
	for _, name := range names {
		i := slices.IndexFunc(all, func(s Scenario) bool { return s.Name == name })
		if i < 0 {
			var known []string
			for _, s := range all {
				known = append(known, s.Name)
			}
			return nil, fmt.Errorf("scenario %q: %w; take %s", name, ErrUnknown, strings.Join(known, ", "))
		}
		found = append(found, all[i])
	}
	return found, nil
}

// FindDiscipline returns the discipline with this name. Its error lists those that there are.
func FindDiscipline(name string) (Discipline, error) {
	if d := Discipline(name); slices.Contains(Disciplines(), d) {
		return d, nil
	}
	return "", fmt.Errorf("discipline %q: %w; take %s or %s", name, ErrUnknown, PoolFirst, AllocatorFirst)
}

// Options bound runs. The zero value takes the defaults.
type Options struct {
	// Limit ends a way that neither finishes nor deadlocks. Default 30 s.
	Limit time.Duration

	// Patience is how long tasks that cannot get on are given to prove the opposite.
	// Default 50 ms.
	Patience time.Duration
}

const (
	defaultLimit    = 30 * time.Second
	defaultPatience = 50 * time.Millisecond
)

func (o Options) resolve() Options {
	if o.Limit <= 0 {
		o.Limit = defaultLimit
	}
	if o.Patience <= 0 {
		o.Patience = defaultPatience
	}
	return o
}

// Run plays the scenario's ways under a discipline, one after the other. When ctx ends, what
// is under way ends and the rest is not begun; each of these has the verdict TimeLimit.
func (s Scenario) Run(ctx context.Context, under Discipline, o Options) []Result {
	var results []Result
	for _, w := range s.ways {
		if w.under != under {
			continue
		}
		started := time.Now()
		r := perform(ctx, o.resolve(), w.play)
		res := r.result(w.want)
		res.Scenario, res.Discipline, res.Way = s.Name, under, w.name
		res.Asked, res.Shows = s.Asked, w.shows
		res.ElapsedMS = time.Since(started).Milliseconds()
		results = append(results, res)
	}
	return results
}

package compare

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// A Call is what a task does in an Event.
type Call uint8

const (
	Get     Call = iota // by one who may not sleep
	GetWait             // by one who may
	Put
)

// An Event is one call of a task.
type Event struct {
	At   time.Duration // since the start; a task that is late makes it as soon as it can
	Call Call
	Of   int // Put: the index, among the task's events, of the get whose element it gives back
}

// A Span is a stretch of time since the start.
type Span struct{ From, To time.Duration }

// A Trace is what tasks do.
type Trace struct {
	Name   string
	Seed   uint64
	Length time.Duration
	Tasks  [][]Event // in the order of At
	Events int       // of all tasks
	Gets   int       // calls of Get and GetWait
	Waits  int       // calls of GetWait
	Peak   int       // most elements out at a time, if every get succeeds at once

	// PeakApart is the most that each task has out, of all tasks added up: more than Peak
	// where they do not peak at the same time.
	PeakApart int

	// Allocator is what the trace is meant to be run on.
	Allocator Allocator
}

// TraceOptions say which trace to make. All fields have to be set, but for Events.
type TraceOptions struct {
	Name   string
	Seed   uint64
	Tasks  int
	Length time.Duration
	Events int // the earliest so many calls; 0: as many as there are
}

const (
	maxTasks  = 256
	maxEvents = 20_000_000
)

// NewTrace makes a trace. The same options give the same trace.
func NewTrace(o TraceOptions) (*Trace, error) {
	s, err := shapeOf(o.Name)
	switch {
	case err != nil:
		return nil, err
	case o.Tasks < 1 || o.Tasks > maxTasks:
		return nil, fmt.Errorf("%w: %d tasks: take 1 to %d", ErrBadOptions, o.Tasks, maxTasks)
	case o.Length < tick:
		return nil, fmt.Errorf("%w: a trace of %v: take %v or more", ErrBadOptions, o.Length, tick)
	case o.Events < 0 || o.Events == 1:
		return nil, fmt.Errorf("%w: %d events: take 2 (a get and its put) or more, or 0 for all", ErrBadOptions, o.Events)
	}
	if n := float64(o.Length/tick) * float64(o.Tasks) * 2 * s.mean; n > maxEvents {
		return nil, fmt.Errorf("%w: about %.0f events would be in a trace of %v for %d tasks, %d are the most: take a shorter one or fewer tasks",
			ErrBadOptions, n, o.Length, o.Tasks, maxEvents)
	}
	t := &Trace{Name: o.Name, Seed: o.Seed, Length: o.Length, Allocator: s.allocator(o.Length)}
	for i := range o.Tasks {
		t.Tasks = append(t.Tasks, s.task(rand.New(rand.NewPCG(o.Seed, uint64(i))), o.Length))
	}
	if o.Events > 0 {
		t.truncate(o.Events)
	}
	t.count()
	return t, nil
}

// Names are the traces that there are.
func Names() []string {
	names := make([]string, len(shapes))
	for i, s := range shapes {
		names[i] = s.name
	}
	return names
}

// About says in a line what the trace of a name is like.
func About(name string) string {
	s, err := shapeOf(name)
	if err != nil {
		return ""
	}
	return s.about
}

func shapeOf(name string) (*shape, error) {
	for i := range shapes {
		if shapes[i].name == name {
			return &shapes[i], nil
		}
	}
	return nil, fmt.Errorf("%w: no such trace: %q; take %s", ErrBadOptions, name, strings.Join(Names(), ", "))
}

// truncate leaves the earliest n/2 gets and their puts.
func (t *Trace) truncate(n int) {
	type place struct {
		at          time.Duration
		task, index int
	}
	var gets []place
	for i, events := range t.Tasks {
		for k, e := range events {
			if e.Call != Put {
				gets = append(gets, place{e.At, i, k})
			}
		}
	}
	if n/2 >= len(gets) {
		return
	}
	slices.SortStableFunc(gets, func(a, b place) int { return cmp.Compare(a.at, b.at) })
	keep := make([]map[int]bool, len(t.Tasks))
	for i := range keep {
		keep[i] = map[int]bool{}
	}
	for _, g := range gets[:n/2] {
		keep[g.task][g.index] = true
	}
	var last time.Duration
	for i := range t.Tasks {
		t.Tasks[i] = only(t.Tasks[i], keep[i])
		for _, e := range t.Tasks[i] {
			last = max(last, e.At)
		}
	}
	t.Length = min(t.Length, last+tick)
}

// only is what is left of events with the gets in keep.
func only(events []Event, keep map[int]bool) []Event {
	at := map[int]int{} // where a get is in the result
	var kept []Event
	for i, e := range events {
		switch {
		case e.Call != Put && keep[i]:
			at[i] = len(kept)
		case e.Call == Put && keep[e.Of]:
			e.Of = at[e.Of]
		default:
			continue
		}
		kept = append(kept, e)
	}
	return kept
}

// A change is one in the number of elements that are out.
type change struct {
	at time.Duration
	by int
}

// count sets what is counted over all tasks.
func (t *Trace) count() {
	var all []change
	for _, events := range t.Tasks {
		var own []change
		for _, e := range events {
			by := -1
			if e.Call != Put {
				t.Gets++
				by = 1
			}
			if e.Call == GetWait {
				t.Waits++
			}
			own = append(own, change{e.At, by})
		}
		t.Events += len(events)
		t.PeakApart += peak(own)
		all = append(all, own...)
	}
	t.Peak = peak(all)
}

// peak is the largest sum of the changes up to a time. It sorts them. Of two at the same time that
// which adds counts first: so much may be out.
func peak(changes []change) int {
	slices.SortFunc(changes, func(a, b change) int { return cmp.Or(cmp.Compare(a.at, b.at), b.by-a.by) })
	out, most := 0, 0
	for _, c := range changes {
		out += c.by
		most = max(most, out)
	}
	return most
}

// Demand is how many elements would be out at times a step apart, if every get succeeded at
// once.
func (t *Trace) Demand(step time.Duration) []Sample {
	changes := make([]int, t.Length/step+2)
	for _, events := range t.Tasks {
		for _, e := range events {
			by := 1
			if e.Call == Put {
				by = -1
			}
			changes[min(int(e.At/step)+1, len(changes)-1)] += by
		}
	}
	samples := make([]Sample, len(changes))
	out := 0
	for i, by := range changes {
		out += by
		samples[i] = Sample{At: time.Duration(i) * step, Elements: out}
	}
	return samples
}

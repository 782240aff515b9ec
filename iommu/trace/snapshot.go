package trace

import (
	"cmp"
	"slices"
	"time"
)

// A Snapshot is what was counted since Open.
type Snapshot struct {
	At      time.Time `json:"at"`
	Opened  time.Time `json:"opened"`
	Tallies []Tally   `json:"tallies"` // sorted by operation, source, pool, process, class, result
	Lost    Lost      `json:"lost"`
	Sample  int       `json:"sample"` // one in so many of the library's calls was seen
	Missing []Missing `json:"missing,omitempty"`

	// Commands are the names of the processes that have tallies, those that have ended too.
	Commands map[uint32]string `json:"commands"`
}

// A Tally is the calls of one kind.
type Tally struct {
	Operation Operation `json:"operation"`
	// Result is 0 if the call did what it was asked for. Otherwise it is, for calls of the library, 1 if nothing was ready,
	// 2 if the caller got it wrong, 3 if the unit or the kernel failed; for a fault its reason; for calls of the kernel the errno.
	Result  uint16 `json:"result"`
	Class   uint8  `json:"class"`   // sizes from 2^Class to 2^(Class+1)-1; 0 also where there are none
	Process uint32 `json:"process"` // 0 is the kernel itself
	Source  Source `json:"source"`
	Pool    uint64 `json:"pool,omitempty"` // of an operation of a pool: its number in the process

	Count uint64        `json:"count"`
	Time  time.Duration `json:"ns"`
	Size  uint64        `json:"size"`  // the sum, in bytes
	Items uint64        `json:"items"` // the sum of what else the calls were for, see Operation.Items
	Slots [Slots]uint64 `json:"slots"`
}

// Lost is what happened and is not in the tallies, or was no event.
type Lost struct {
	Tallied uint64 `json:"tallied"` // calls for whose kind there was no room: raise Options.Cells
	Events  uint64 `json:"events"`  // events for which there was no room: raise Options.Buffer, or read faster
	Starts  uint64 `json:"starts"`  // calls of the kernel's that began before the tracer, or whose start was not noted
	Misses  uint64 `json:"misses"`  // calls of the kernel's that interrupted the program that counts them
}

// Missing is something that the kernel does not let be watched.
type Missing struct {
	Name string `json:"name"`
	Why  string `json:"why"`
}

// Total adds up the tallies that are wanted; nil wants all. What distinguishes them is 0 in it.
func (s Snapshot) Total(wanted func(Tally) bool) Tally {
	var sum Tally
	for _, t := range s.Tallies {
		if wanted == nil || wanted(t) {
			sum.Add(t)
		}
	}
	return sum
}

// Of is Total of an operation.
func (s Snapshot) Of(o Operation) Tally {
	t := s.Total(func(t Tally) bool { return t.Operation == o })
	t.Operation = o
	return t
}

// Add adds the numbers of u.
func (t *Tally) Add(u Tally) {
	t.Count += u.Count
	t.Time += u.Time
	t.Size += u.Size
	t.Items += u.Items
	for i := range t.Slots {
		t.Slots[i] += u.Slots[i]
	}
}

// Quantile is the time that a share q of the calls, from 0 to 1, did not take longer than. It is an estimate: within a slot times are
// taken to be spread evenly. It is 0 if there are no calls.
func (t Tally) Quantile(q float64) time.Duration {
	total := uint64(0)
	for _, n := range t.Slots {
		total += n
	}
	left := q * float64(total)
	for i, n := range t.Slots {
		if n == 0 {
			continue
		}
		if left <= float64(n) {
			low := float64(uint64(1) << i)
			if i == 0 {
				low = 0
			}
			return time.Duration(low + left/float64(n)*(float64(uint64(2)<<i)-low))
		}
		left -= float64(n)
	}
	return 0
}

// key is all but the numbers.
func (t Tally) key() Tally {
	return Tally{Operation: t.Operation, Result: t.Result, Class: t.Class, Process: t.Process, Source: t.Source, Pool: t.Pool}
}

// Since is what happened after an earlier snapshot of the same tracer.
func (s Snapshot) Since(earlier Snapshot) Snapshot {
	before := map[Tally]Tally{}
	for _, t := range earlier.Tallies {
		before[t.key()] = t
	}
	d := s
	d.Tallies = nil
	for _, t := range s.Tallies {
		b := before[t.key()]
		t.Count -= b.Count
		t.Time -= b.Time
		t.Size -= b.Size
		t.Items -= b.Items
		for i := range t.Slots {
			t.Slots[i] -= b.Slots[i]
		}
		if t.Count != 0 {
			d.Tallies = append(d.Tallies, t)
		}
	}
	d.Lost.Tallied -= earlier.Lost.Tallied
	d.Lost.Events -= earlier.Lost.Events
	d.Lost.Starts -= earlier.Lost.Starts
	d.Lost.Misses -= earlier.Lost.Misses
	return d
}

func compareTallies(a, b Tally) int {
	return cmp.Or(cmp.Compare(a.Operation, b.Operation), cmp.Compare(a.Source, b.Source), cmp.Compare(a.Pool, b.Pool), cmp.Compare(a.Process, b.Process),
		cmp.Compare(a.Class, b.Class), cmp.Compare(a.Result, b.Result))
}

func sortTallies(l []Tally) { slices.SortFunc(l, compareTallies) }

package compare

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// tick is the time between two looks of a task whether it wants something.
const tick = time.Millisecond

// A shape is a kind of trace.
type shape struct {
	name  string
	about string

	// mean is about how many gets a task makes in a tick.
	mean float64

	// load is how many gets a task makes on average in the tick at time at of a trace, as a
	// share of its length, and how many at once on top.
	load func(at float64, now time.Duration) (rate float64, burst int)

	// hold is how long an element is out on average.
	hold time.Duration

	allocator func(length time.Duration) Allocator
}

// maySleep is the share of gets whose caller may sleep.
const maySleep = 0.25

var shapes = []shape{
	{
		name:  "steady",
		about: "each task takes 2 elements a millisecond and keeps each for 5 ms; a quick allocator",
		mean:  2, hold: 5 * time.Millisecond,
		load:      func(float64, time.Duration) (float64, int) { return 2, 0 },
		allocator: func(time.Duration) Allocator { return quick },
	},
	{
		name:  "bursts",
		about: "each task takes 1 element a millisecond and every 100 ms 48 at once, all tasks together; a quick allocator",
		mean:  1.5, hold: 5 * time.Millisecond,
		load: func(_ float64, now time.Duration) (float64, int) {
			if now%(100*time.Millisecond) == 50*time.Millisecond {
				return 1, 48
			}
			return 1, 0
		},
		allocator: func(time.Duration) Allocator { return quick },
	},
	{
		name: "pressure",
		about: "as steady, but two times, for 15 % of the trace each, the allocator refuses without reclaim and is slow with it; in the second\n" +
			"half of these times the tasks want twice as much",
		mean: 2.5, hold: 5 * time.Millisecond,
		load: func(at float64, _ time.Duration) (float64, int) {
			if at >= 0.275 && at < 0.35 || at >= 0.725 && at < 0.8 {
				return 4, 0
			}
			return 2, 0
		},
		allocator: func(length time.Duration) Allocator {
			part := func(x float64) time.Duration { return time.Duration(x * float64(length)) }
			a := quick
			a.Pressure = []Span{{part(0.2), part(0.35)}, {part(0.65), part(0.8)}}
			a.Reclaim = Cost{3 * time.Millisecond, 20 * time.Millisecond, 50 * time.Millisecond}
			return a
		},
	},
	{
		name:  "slow",
		about: "each task takes 1 element a millisecond, in the middle third 3; the allocator has to prepare each element, which takes long",
		mean:  5. / 3, hold: 5 * time.Millisecond,
		load: func(at float64, _ time.Duration) (float64, int) {
			if at >= 1./3 && at < 2./3 {
				return 3, 0
			}
			return 1, 0
		},
		allocator: func(time.Duration) Allocator { return slow },
	},
}

// task makes the events of one task.
func (s *shape) task(rng *rand.Rand, length time.Duration) []Event {
	type loan struct {
		from, to time.Duration
		call     Call
	}
	var loans []loan
	for now := time.Duration(0); now < length; now += tick {
		rate, burst := s.load(float64(now)/float64(length), now)
		at := min(now+time.Duration(rng.Int64N(int64(tick))), length-1)
		for range poisson(rng, rate) + burst {
			call := Get
			if rng.Float64() < maySleep {
				call = GetWait
			}
			hold := time.Duration(rng.ExpFloat64() * float64(s.hold))
			loans = append(loans, loan{at, min(at+hold, length), call})
		}
	}
	type change struct {
		Event
		loan int
	}
	changes := make([]change, 0, 2*len(loans))
	for i, l := range loans {
		changes = append(changes, change{Event{At: l.from, Call: l.call}, i}, change{Event{At: l.to, Call: Put}, i})
	}
	slices.SortStableFunc(changes, func(a, b change) int { return cmp.Compare(a.At, b.At) })
	events := make([]Event, len(changes))
	begun := make([]int, len(loans))
	for i, c := range changes {
		if events[i] = c.Event; c.Call == Put {
			events[i].Of = begun[c.loan]
		} else {
			begun[c.loan] = i
		}
	}
	return events
}

// poisson draws from the distribution of that name.
func poisson(rng *rand.Rand, mean float64) int {
	n, p, limit := 0, rng.Float64(), math.Exp(-mean)
	for p > limit {
		n++
		p *= rng.Float64()
	}
	return n
}

package compare

import (
	"context"
	"errors"
	"math"
	"sync/atomic"
	"time"
)

// A Cost is how long a call takes: drawn from a log-normal distribution of which half are below Median
// and 99 % below P99, cut off at Max.
type Cost struct {
	Median, P99, Max time.Duration
}

// An Allocator says what the simulated allocator is like. It has no lock, so callers do not hold up each
// other, and no end of memory. Try and Free stay on the processor; so do Alloc and
// Reclaim up to 50 µs, and are asleep when they take longer.
type Allocator struct {
	Try   Cost // without reclaim
	Alloc Cost // with reclaim
	Free  Cost

	// Pressure is when the allocator without reclaim refuses, having taken Try, and the one
	// with reclaim takes Reclaim.
	Pressure []Span
	Reclaim  Cost
}

var (
	quick = Allocator{
		Try:   Cost{1 * time.Microsecond, 10 * time.Microsecond, 50 * time.Microsecond},
		Alloc: Cost{2 * time.Microsecond, 200 * time.Microsecond, 2 * time.Millisecond},
		Free:  Cost{500 * time.Nanosecond, 5 * time.Microsecond, 50 * time.Microsecond},
	}
	slow = Allocator{
		Try:   Cost{50 * time.Microsecond, 200 * time.Microsecond, 500 * time.Microsecond},
		Alloc: Cost{500 * time.Microsecond, 2 * time.Millisecond, 5 * time.Millisecond},
		Free:  Cost{20 * time.Microsecond, 100 * time.Microsecond, 500 * time.Microsecond},
	}
)

var errPressure = errors.New("no memory without reclaim")

// An element is what the simulated allocator makes.
type element uint64

// Calls count calls of the allocator.
type Calls struct {
	Try     uint64 `json:"try"`         // without reclaim
	Refused uint64 `json:"try_refused"` // of Try
	Alloc   uint64 `json:"alloc"`       // with reclaim
	Free    uint64 `json:"free"`
}

// A simulated allocator is a discipline.Backing.
type simulated struct {
	Allocator
	seed    uint64
	byTasks bool                      // see contender
	start   atomic.Pointer[time.Time] // of the trace; nil before it

	draws atomic.Uint64
	last  atomic.Uint64
	live  atomic.Int64
	peak  atomic.Int64

	caller counters // of calls made by tasks
	others counters // of calls by goroutines of the discipline, and before and after the trace
}

// counters are Calls while they are counted.
type counters struct{ try, refused, alloc, free atomic.Uint64 }

func (c *counters) calls() Calls {
	return Calls{Try: c.try.Load(), Refused: c.refused.Load(), Alloc: c.alloc.Load(), Free: c.free.Load()}
}

func (s *simulated) TryAlloc() (element, error) {
	begin := time.Now()
	c := s.counters()
	c.try.Add(1)
	s.work(begin, s.draw(s.Try))
	if s.pressed(begin) {
		c.refused.Add(1)
		return 0, errPressure
	}
	return s.make(), nil
}

func (s *simulated) Alloc(ctx context.Context) (element, error) {
	begin := time.Now()
	cost := s.Allocator.Alloc
	if s.pressed(begin) {
		cost = s.Reclaim
	}
	s.counters().alloc.Add(1)
	if err := s.spend(ctx, begin, s.draw(cost)); err != nil {
		return 0, err
	}
	return s.make(), nil
}

func (s *simulated) Free(element) error {
	begin := time.Now()
	s.counters().free.Add(1)
	s.work(begin, s.draw(s.Allocator.Free))
	s.live.Add(-1)
	return nil
}

func (s *simulated) make() element {
	n := s.live.Add(1)
	for p := s.peak.Load(); n > p && !s.peak.CompareAndSwap(p, n); p = s.peak.Load() {
	}
	return element(s.last.Add(1))
}

// pressed says whether there is pressure now.
func (s *simulated) pressed(now time.Time) bool {
	start := s.start.Load()
	if start == nil {
		return false
	}
	at := now.Sub(*start)
	for _, p := range s.Pressure {
		if p.From <= at && at < p.To {
			return true
		}
	}
	return false
}

// counters are those that the call under way is to be counted in.
func (s *simulated) counters() *counters {
	if s.byTasks && s.start.Load() != nil {
		return &s.caller
	}
	return &s.others
}

// longest is the longest that an Alloc stays on the processor.
const longest = 50 * time.Microsecond

// draw is how long the next call of a cost takes.
func (s *simulated) draw(c Cost) time.Duration { return c.at(normal(s.seed, s.draws.Add(1))) }

// work lets a time pass on the processor, counted from begin.
func (s *simulated) work(begin time.Time, cost time.Duration) {
	for time.Since(begin) < cost {
	}
}

// spend lets a time pass, counted from begin. It ends early, with ctx's error, where it sleeps.
func (s *simulated) spend(ctx context.Context, begin time.Time, cost time.Duration) error {
	if cost <= longest {
		s.work(begin, cost)
		return ctx.Err()
	}
	timer := time.NewTimer(cost - time.Since(begin))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// at is the cost for a draw z from the standard normal distribution.
func (c Cost) at(z float64) time.Duration {
	const z99 = 2.3263 // of which 99 % of draws are below
	sigma := math.Log(float64(c.P99)/float64(c.Median)) / z99
	return min(time.Duration(float64(c.Median)*math.Exp(sigma*z)), c.Max)
}

// normal is draw n of a seed from the standard normal distribution, by Box and Muller.
func normal(seed, n uint64) float64 {
	u := float64(mix(seed+2*n)>>11+1) / (1 << 53)
	v := float64(mix(seed+2*n+1)>>11) / (1 << 53)
	return math.Sqrt(-2*math.Log(u)) * math.Cos(2*math.Pi*v)
}

// mix is the finalizer of splitmix64: it needs no state that callers would share.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

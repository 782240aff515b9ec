package compare

import (
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// A Result is what a discipline made of a trace.
type Result struct {
	Name  string
	Setup string // how the discipline was set up

	Get, GetWait, Put Latency
	Failures          []Failure // in the order of their time

	Beforehand uint64 // calls of Alloc before the trace began
	Callers    Calls  // of the allocator during the trace, on the path of a task's call
	Others     Calls  // of the allocator during the trace, by goroutines of the discipline

	// Elements that existed: ready, out, or on their way. Counted by the allocator.
	Peak    int      // the most at a time
	Mean    float64  // over time
	End     int      // when the last task was done
	Samples []Sample // about 1 ms apart

	Elapsed time.Duration // until the last task was done
	Behind  time.Duration // the most that a call was later than the trace has it
}

// A Failure is a get that returned no element.
type Failure struct {
	At       time.Duration // since the start
	MaySleep bool          // the caller waited as long as its patience
}

// A Sample is how many elements there were at a time since the start.
type Sample struct {
	At       time.Duration
	Elements int
}

// Failed counts the failures of those who may sleep, or of those who may not.
func (r *Result) Failed(maySleep bool) int {
	n := 0
	for _, f := range r.Failures {
		if f.MaySleep == maySleep {
			n++
		}
	}
	return n
}

// A Latency says how long calls of a kind took, failed ones too, from the call to its return. It
// is right to 1 %.
type Latency struct {
	Calls int64         `json:"calls"`
	P50   time.Duration `json:"p50_ns"`
	P90   time.Duration `json:"p90_ns"`
	P99   time.Duration `json:"p99_ns"`
	P999  time.Duration `json:"p99_9_ns"`
	P9999 time.Duration `json:"p99_99_ns"`
	Max   time.Duration `json:"max_ns"`
}

func latencyOf(h *hdrhistogram.Histogram) Latency {
	at := func(q float64) time.Duration { return time.Duration(h.ValueAtQuantile(q)) }
	return Latency{
		Calls: h.TotalCount(),
		P50:   at(50), P90: at(90), P99: at(99), P999: at(99.9), P9999: at(99.99),
		Max: time.Duration(h.Max()),
	}
}

// ClockCost is how long it takes to read the clock twice, the median of some tries: so much of each
// latency is not the call's.
func ClockCost() time.Duration {
	var tries [1001]time.Duration
	for i := range tries {
		begin := time.Now()
		tries[i] = time.Since(begin)
	}
	slices.Sort(tries[:])
	return tries[len(tries)/2]
}

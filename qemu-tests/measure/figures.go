package measure

import "github.com/HdrHistogram/hdrhistogram-go"

// longest is the largest time that the histograms hold, a minute; longer ones
// count as that.
const longest = int64(60_000_000_000)

// times are times in nanoseconds, each of some calls.
type times struct{ h *hdrhistogram.Histogram }

// newTimes keeps so many digits of each time: with 3 it takes 0.3 MB, with 2 40 kB.
func newTimes(digits int) times { return times{hdrhistogram.New(1, longest, digits)} }

func (t times) add(ns int64) {
	_ = t.h.RecordValue(min(max(ns, 0), longest)) // which it can always hold
}

func (t times) merge(o times) { t.h.Merge(o.h) }

// figures are the percentiles of times, in nanoseconds, for calls of which each
// time is of so many.
func (t times) figures(each int) figures {
	at := func(q float64) float64 { return float64(t.h.ValueAtQuantile(q)) / float64(each) }
	return figures{
		n:   t.h.TotalCount(),
		p50: at(50), p99: at(99), p999: at(99.9), p9999: at(99.99),
		max: float64(t.h.Max()) / float64(each),
	}
}

type figures struct {
	n                          int64
	p50, p99, p999, p9999, max float64
}

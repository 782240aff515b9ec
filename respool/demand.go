package respool

import "time"

// spans are the times, in seconds, over which the outflow is averaged. A mean over one of them is
// good for a forecast of up to reach times that: what left in the last 10 ms says something about the next 100 ms
// and nothing about the next minute.
var spans = [...]float64{0.01, 0.1, 1}

const reach = 10

// An outflow is the elements per second that leave the pool, less those that come back: one mean for
// each of spans, in which what was seen weighs the less the longer ago it was.
type outflow [len(spans)]float64

// after is the outflow after a look d later that found n more elements out. It needs no d
// above zero: the limit for none is a jump by n.
//
//gommu:nosleep
func (o outflow) after(n int, d time.Duration) outflow {
	for k, span := range spans {
		o[k] = (o[k]*span + float64(n)) / (span + d.Seconds())
	}
	return o
}

// during is how many elements go out within d at the highest of the rates that are good for it.
func (o outflow) during(d time.Duration) float64 {
	s, most := d.Seconds(), 0.0
	for k := range spans {
		if holds(k, s) {
			most = max(most, o[k]*s)
		}
	}
	return most
}

// holds says whether the kth mean is good for a forecast of s seconds.
//
//gommu:nosleep
func holds(k int, s float64) bool { return k == len(spans)-1 || s <= reach*spans[k] }

// A supply is what the source has given: for each of spans the elements and the seconds that it spent on them. What
// was longer ago, or more elements ago, weighs less.
type supply struct {
	made, busy [len(spans)]float64
	peak       float64 // the longest that one took, in seconds, forgotten over the last of windows
	last       time.Time
}

// windows are over how many elements the means of the source's time are taken at most. The last is more than the
// blocks that sources of memory cut from one mapping, for which the first of them waits.
var windows = [len(spans)]float64{16, 128, 1024}

// took takes in that the source gave one element, between begin and end.
func (s *supply) took(begin, end time.Time) {
	if s.last.IsZero() {
		s.last = begin
	}
	t, since := end.Sub(begin).Seconds(), end.Sub(s.last).Seconds()
	for k, span := range spans {
		old := min(span/(span+since), 1-1/windows[k])
		s.made[k] = s.made[k]*old + 1
		s.busy[k] = s.busy[k]*old + t
	}
	s.peak = max(t, s.peak*(1-1/windows[len(windows)-1]))
	s.last = end
}

// mean is how many seconds one element takes, in the kth of spans.
func (s *supply) mean(k int) float64 { return s.busy[k] / max(s.made[k], 1) }

// of is how long n elements take, one of them the longest.
func (s *supply) of(n int) time.Duration {
	return time.Duration((float64(n-1)*s.mean(len(spans)-1) + s.peak) * float64(time.Second))
}

// A demand is what the looks at a pool have shown of what is asked of it.
type demand struct {
	flow  outflow
	burst float64 // the most that left between two looks beyond the trend; forgotten over burstSpan
}

const burstSpan = 10 // seconds

// saw takes in a look after d: n more elements are out than at the last one, and the pool was drawn
// down by as many as dip at some moment between.
func (d *demand) saw(n, dip int, since time.Duration) {
	d.flow = d.flow.after(n, since)
	d.burst *= burstSpan / (burstSpan + since.Seconds())
	d.burst = max(d.burst, float64(dip)-d.trend(since))
}

// within is how many elements are to be expected to go out within t: at the present rate, or by a burst on
// top of the trend.
func (d *demand) within(t time.Duration) int {
	return int(max(d.flow.during(t), d.trend(t)+d.burst) + 0.5)
}

// trend is how many elements go out within t by the mean over the longest span.
func (d *demand) trend(t time.Duration) float64 { return max(0, d.flow[len(spans)-1]) * t.Seconds() }

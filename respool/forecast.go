package respool

import (
	"math"
	"sync/atomic"
	"time"
)

// A Forecast says what becomes of a pool if things go on as they do.
type Forecast struct {
	// Free is how many elements are ready.
	Free int

	// Outflow is how many elements leave the pool in a second, less those that come back: below zero
	// where more come back. It is the mean that DryIn was computed with; where Dry
	// is false, that of the last 100 ms or so.
	Outflow float64

	// Latency is the time that the source takes for an element, and Supply how many it can give in a second:
	// one for each Latency, none while it fails. Both are means over the same time as Outflow, but an Alloc that
	// has been under way for longer than that is all that counts. An Outflow above Supply cannot last.
	Latency time.Duration
	Supply  float64

	// Dry says that the pool would have nothing ready after DryIn, because more leaves than
	// the source gives, or because Max is reached. What would take more than an hour is
	// not forecast: Dry is false then, and DryIn 0.
	Dry   bool
	DryIn time.Duration
}

const (
	longest = time.Hour // is what is forecast at most
	usual   = 1         // is the span of a Forecast that is not Dry
)

// Forecast says when the pool runs dry at the present rate. Of the rate it knows what the worker saw at
// its last look and how many elements are out now; the number free is the present one. What has left since that
// look, which is long ago where the source keeps the worker, counts as if it had left evenly.
//
// The rate is a mean over 10 ms, 100 ms and 1 s, each good for ten times as long, the last for all that is
// longer; the one that says the soonest counts. So a surge shows as soon as some hundredths of a second of it
// have left. What is taken at once is taken before any forecast. After a surge DryIn rises again as the
// means forget it.
//
// Elements kept for other classes or for waiting calls count as free. Forecast may be called from
// anywhere. It never sleeps.
//
//gommu:nosleep
func (p *Pool[T]) Forecast() Forecast {
	//gommu:trust the clock is read in user space (vDSO) wherever the kernel trusts it
	now := time.Since(p.view.start)
	_, out := p.flow()
	rates := p.view.rates().after(out-int(p.view.out.Load()), now-time.Duration(p.view.at.Load()))
	delays := p.view.delays(now)
	fails := p.work.lastError.Load() != nil
	free, room := p.ready.depth(), max(0, p.opts.Max-int(p.total.Load()))

	var f Forecast
	soonest := longest.Seconds()
	for k := range spans {
		supply := 1 / delays[k]
		if fails {
			supply = 0
		}
		t := dryAfter(float64(free), float64(room), rates[k], supply)
		dry := t < soonest && holds(k, t)
		if dry {
			soonest = t
		}
		if dry || k == usual && !f.Dry {
			f = Forecast{Outflow: rates[k], Supply: supply, Latency: time.Duration(delays[k] * float64(time.Second)), Dry: dry}
		}
	}
	f.Free = free
	if f.Dry {
		f.DryIn = time.Duration(soonest * float64(time.Second))
	}
	return f
}

// dryAfter is after how many seconds nothing is left of free elements, of which rate a second leave
// while supply a second are added, room at most.
//
//gommu:nosleep
func dryAfter(free, room, rate, supply float64) float64 {
	switch {
	case free <= 0:
		return 0
	case rate <= 0:
		return math.Inf(1)
	case rate > supply && free*supply <= room*(rate-supply):
		return free / (rate - supply)
	}
	return (free + room) / rate
}

// A view is what the worker publishes of its looks. Times count from start. Each number is right by itself.
// Mixed from two looks they make a forecast wrong by what happened between the two.
type view struct {
	start time.Time
	at    atomic.Int64       // the last look
	out   atomic.Int64       // elements out then
	flow  [len(spans)]number // see outflow
	delay [len(spans)]number // the means of supply
	asked atomic.Int64       // since when the worker is inside Alloc, 0 if it is not
	idle  atomic.Int64       // see Stats.Idle
}

// A number is an atomic float64.
type number struct{ bits atomic.Uint64 }

func (n *number) store(f float64) { n.bits.Store(math.Float64bits(f)) }

//gommu:nosleep
func (n *number) load() float64 { return math.Float64frombits(n.bits.Load()) }

func (v *view) looked(at time.Time, out int, flow outflow) {
	for k, rate := range flow {
		v.flow[k].store(rate)
	}
	v.out.Store(int64(out))
	v.at.Store(int64(at.Sub(v.start)))
}

func (v *view) supplied(s *supply) {
	for k := range spans {
		v.delay[k].store(s.mean(k))
	}
}

//gommu:nosleep
func (v *view) rates() (o outflow) {
	for k := range o {
		o[k] = v.flow[k].load()
	}
	return o
}

// delays are how many seconds the source takes for an element, in each of spans. Where it has been busy with one for
// longer than that, only this counts.
//
//gommu:nosleep
func (v *view) delays(now time.Duration) (delays [len(spans)]float64) {
	busy := 0.0
	if asked := v.asked.Load(); asked != 0 {
		busy = (now - time.Duration(asked)).Seconds()
	}
	for k, span := range spans {
		delays[k] = max(v.delay[k].load(), minDelay)
		if busy >= span {
			delays[k] = max(delays[k], busy)
		}
	}
	return delays
}

const minDelay = 1e-9 // what is too short to be measured

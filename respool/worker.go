package respool

import (
	"context"
	"math"
	"time"
)

// A worker keeps the level of its pool. All fields are its goroutine's.
type worker[T any] struct {
	p        *Pool[T]
	spare    []uint32 // slots that have no element
	interval time.Duration

	// As of the last look.
	at          time.Time
	gets, empty uint64
	lacked      uint64 // of empty, answers for want of elements
	inUse       int    // or reserved
	level       int    // free, and what was added since
	refused     bool   // an answer of ErrEmpty that no notice followed yet

	demand  demand
	goal    int       // the number free to grow to, 0 if that is reached
	extra   int       // how many to add whatever is free, because a burst found nothing
	usedAt  time.Time // the last look that found a Get
	grownAt time.Time // the last element made

	// Since when more than High stayed free, and the lowest number free since.
	calmSince time.Time
	calmLow   int

	idle idleness

	backoff time.Duration // 0 while the source does not fail
	retryAt time.Time
}

// A sight is what a look at the pool shows.
type sight struct {
	at    time.Time
	free  int  // now
	low   int  // the lowest number free since the last look
	short bool // the pool fell short of Low since then, or will if it does not grow now
	empty bool // a Get was answered ErrEmpty since then, for want of elements
	used  bool // there was a Get since then

	wanted int // by those who wait
}

func newWorker[T any](p *Pool[T]) *worker[T] {
	now := time.Now()
	w := &worker[T]{p: p, interval: p.opts.MinInterval, at: now, usedAt: now, grownAt: now, calmSince: now, calmLow: math.MaxInt}
	w.level = p.ready.depth()
	w.idle = idleness{since: now, low: w.level, before: w.level}
	w.spare = make([]uint32, 0, p.opts.Max)
	for i := p.opts.Max; i > int(p.filled); i-- {
		w.spare = append(w.spare, uint32(i))
	}
	return w
}

func (w *worker[T]) run(ctx context.Context) {
	defer close(w.p.stopped)
	timer := time.NewTimer(w.interval)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-w.p.line.wake:
		}
		for w.turn(ctx, w.look(time.Now())) {
		}
		timer.Reset(w.interval)
	}
}

// turn does what a look calls for, at most a step of it, and says whether there is more to do at
// once.
func (w *worker[T]) turn(ctx context.Context, s sight) bool {
	w.tell(s)
	w.pace(s)
	if n := w.missing(s); n > 0 && !s.at.Before(w.retryAt) {
		if w.grow(ctx, n) {
			return true
		}
		w.goal, w.extra = 0, 0 // out of reach: what was wanted then may not be by the next look
	}
	if n := w.surplus(s); n > 0 {
		w.shrink(n)
	}
	return false
}

// look compares the pool with what it was at the last look.
func (w *worker[T]) look(now time.Time) sight {
	p := w.p
	gets, inUse := p.flow()
	empty := p.empty.Load()
	lacked := empty - p.line.kept.Load() // counted before empty: never too many
	s := sight{at: now, free: p.ready.depth(), empty: int64(lacked-w.lacked) > 0, wanted: int(p.line.wanted.Load())}
	if s.wanted > 0 {
		s.wanted += p.opts.OrdinaryMark
	}
	dip := p.dip.Swap(noDip)
	s.used = gets != w.gets || dip != noDip
	w.refused = w.refused || empty != w.empty
	w.lacked += uint64(max(0, int64(lacked-w.lacked)))
	s.low = int(min(dip, int64(s.free)))
	if s.empty {
		s.low = 0 // an answer of ErrEmpty leaves no dip
	}
	w.demand.saw(inUse-w.inUse, max(inUse-w.inUse, w.level-s.low), now.Sub(w.at))
	s.short = min(s.low, s.free-w.demand.within(w.horizon())) < p.opts.Low || w.outpaced()
	if s.used {
		w.usedAt = now
	}
	w.at, w.gets, w.empty, w.inUse, w.level = now, gets, empty, inUse, s.free
	p.view.looked(now, inUse, w.demand.flow)
	p.view.idle.Store(int64(w.idle.saw(now, s.low, p.opts.IdleAfter)))
	return s
}

// horizon is how far the worker has to look ahead: the next look may be that late, and then the
// source takes its time for a step.
func (w *worker[T]) horizon() time.Duration {
	o := &w.p.opts
	step := min(w.p.supply.of(o.Step), max(w.p.supply.of(1), o.MaxInterval))
	return min(2*w.interval, o.MaxInterval) + step
}

// outpaced says whether more leaves than the source can give. Then what is not made at once will be
// missing.
func (w *worker[T]) outpaced() bool { return w.demand.flow[usual]*w.p.supply.mean(usual) > 1 }

// tell wakes who waits for what the look has found.
func (w *worker[T]) tell(s sight) {
	if s.free == 0 {
		return
	}
	w.p.line.ring()
	if !w.refused {
		return
	}
	w.refused = false
	w.p.tellReturned()
	if hook := w.p.opts.OnReturned; hook != nil {
		w.outside(hook)
	}
}

// outside calls what is not the pool's own and may take its time: Close does not count on it.
func (w *worker[T]) outside(call func()) {
	w.p.asking.Store(true)
	defer w.p.asking.Store(false)
	call()
}

// missing is by how many elements the pool is to grow.
func (w *worker[T]) missing(s sight) int {
	o := &w.p.opts
	if s.short {
		w.goal = max(w.goal, o.High)
	}
	if s.empty {
		w.extra = o.Step
	}
	if s.free >= w.goal {
		w.goal = 0
	}
	return max(w.goal-s.free, s.wanted-s.free, w.extra)
}

// pace sets the time until the next look.
func (w *worker[T]) pace(s sight) {
	o := &w.p.opts
	switch {
	case s.short && s.used || s.empty || s.wanted > 0:
		w.interval = o.MinInterval
	case s.used:
		w.interval = max(min(w.interval/2, o.MaxInterval), o.MinInterval)
	case s.free >= o.High && s.at.Sub(w.usedAt) >= restAfter:
		w.interval = min(w.interval*2, o.RestInterval)
	default:
		w.interval = min(w.interval*2, o.MaxInterval)
	}
}

// grow adds n elements, but at most Step and only until MaxInterval has passed, so that the
// worker looks anew in time. It stops where the source fails, where Max is reached, and when ctx
// ends, and then says that there is no use in going on.
func (w *worker[T]) grow(ctx context.Context, n int) bool {
	o := &w.p.opts
	begin, step := time.Now(), min(n, o.Step, len(w.spare))
	added, ok := 0, step > 0
	for ok && added < step && (added == 0 || time.Since(begin) < o.MaxInterval) {
		if ok = w.add(ctx); ok {
			added++
		}
	}
	w.p.showGrown(added, begin)
	return ok
}

// add asks the source for one element.
func (w *worker[T]) add(ctx context.Context) bool {
	p := w.p
	if ctx.Err() != nil {
		return false
	}
	e, err := w.alloc(ctx)
	if err != nil {
		if ctx.Err() == nil {
			w.failed(err)
		}
		return false
	}
	w.backoff, w.retryAt = 0, time.Time{}
	p.work.lastError.Store(nil)

	i := w.spare[len(w.spare)-1]
	w.spare = w.spare[:len(w.spare)-1]
	p.elems[i] = e
	p.total.Add(1)
	p.work.grown.Add(1)
	if p.ready.push(i, sealed, nil) != done { // a Close gave up on us
		p.asking.Store(true)
		p.dispose(i, nil)
		p.asking.Store(false)
		p.work.shrunk.Add(1)
		return false
	}
	w.level++
	w.extra = max(0, w.extra-1)
	p.line.ring()
	return true
}

// alloc is the source's Alloc, and takes its time.
func (w *worker[T]) alloc(ctx context.Context) (e T, err error) {
	v, begin := &w.p.view, time.Now()
	v.asked.Store(max(1, int64(begin.Sub(v.start))))
	w.outside(func() { e, err = w.p.src.Alloc(ctx) })
	if err == nil {
		w.grownAt = time.Now()
		w.p.supply.took(begin, w.grownAt)
		v.supplied(&w.p.supply)
	}
	v.asked.Store(0)
	return e, err
}

// failed puts off the next try.
func (w *worker[T]) failed(err error) {
	o := &w.p.opts
	w.p.work.sourceErrors.Add(1)
	w.p.work.lastError.Store(&err)
	w.backoff = min(max(2*w.backoff, firstBackoff), o.MaxBackoff)
	w.retryAt = time.Now().Add(w.backoff)
	if o.OnSourceError != nil {
		w.outside(func() { o.OnSourceError(err) })
	}
}

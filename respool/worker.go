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
	gets, empty uint64
	lacked      uint64 // of empty, answers for want of elements
	inUse       int    // or reserved
	refused     bool   // an answer of ErrEmpty that no token in Returned followed yet

	// Since when more than High stayed free, and the lowest number free since.
	calmSince time.Time
	calmLow   int

	backoff time.Duration // 0 while the source does not fail
	retryAt time.Time
}

// A sight is what a look at the pool shows.
type sight struct {
	free  int  // now
	low   int  // the lowest number free since the last look
	short bool // the pool fell short of Low since then, or will before the next look
	empty bool // a Get was answered ErrEmpty since then, for want of elements
	used  bool // there was a Get since then

	wanted int // by those who wait
}

func newWorker[T any](p *Pool[T]) *worker[T] {
	w := &worker[T]{p: p, interval: p.opts.MinInterval, calmSince: time.Now(), calmLow: math.MaxInt}
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
		s := w.look()
		w.tell(s)
		if n := w.missing(s); n > 0 && !time.Now().Before(w.retryAt) {
			w.grow(ctx, n)
		}
		if n := w.surplus(s, time.Now()); n > 0 {
			w.shrink(n)
		}
		w.pace(s)
		timer.Reset(w.interval)
	}
}

// look compares the pool with what it was at the last look.
func (w *worker[T]) look() sight {
	gets, inUse := w.p.flow()
	empty := w.p.empty.Load()
	lacked := empty - w.p.line.kept.Load() // counted before empty: never too many
	s := sight{free: w.p.ready.depth(), empty: int64(lacked-w.lacked) > 0, used: gets != w.gets, wanted: int(w.p.line.wanted.Load())}
	if s.wanted > 0 {
		s.wanted += w.p.opts.OrdinaryMark
	}
	w.refused = w.refused || empty != w.empty
	w.lacked += uint64(max(0, int64(lacked-w.lacked)))
	s.low = int(min(w.p.dip.Swap(noDip), int64(s.free)))
	if s.empty {
		s.low = 0 // an answer of ErrEmpty leaves no dip
	}
	drain := max(0, inUse-w.inUse)
	s.short = min(s.low, s.free-drain) < w.p.opts.Low
	w.gets, w.empty, w.inUse = gets, empty, inUse
	return s
}

// tell wakes who waits for what the look has found.
func (w *worker[T]) tell(s sight) {
	if s.free == 0 {
		return
	}
	w.p.line.ring()
	if w.refused {
		w.refused = false
		w.p.tellReturned()
	}
}

// missing is by how many elements the pool is to grow.
func (w *worker[T]) missing(s sight) int {
	n := 0
	if s.short {
		n = w.p.opts.High - s.free
	}
	if s.empty {
		n = max(n, w.p.opts.Step)
	}
	return max(n, s.wanted-s.free)
}

// surplus is how many elements the pool has had too many for IdleAfter and is now to
// free: a part of them, so that a pause in the load does not cost all.
func (w *worker[T]) surplus(s sight, now time.Time) int {
	o := &w.p.opts
	if s.low <= o.High || s.wanted > 0 {
		w.calmSince, w.calmLow = now, math.MaxInt
		return 0
	}
	w.calmLow = min(w.calmLow, s.low)
	if now.Sub(w.calmSince) < o.IdleAfter {
		return 0
	}
	excess := min(w.calmLow-o.High, int(w.p.total.Load())-o.Min)
	w.calmSince, w.calmLow = now, math.MaxInt
	return min(max(o.Step, excess/4), excess)
}

// pace sets the time until the next look.
func (w *worker[T]) pace(s sight) {
	o := &w.p.opts
	switch {
	case s.short && s.used || s.empty || s.wanted > 0:
		w.interval = o.MinInterval
	case s.used:
		w.interval = max(w.interval/2, o.MinInterval)
	default:
		w.interval = min(w.interval*2, o.MaxInterval)
	}
}

// grow adds n elements, at most Step of them before it looks anew how many are missing
// to High. It stops where the source fails, where Max is reached, and when ctx ends.
func (w *worker[T]) grow(ctx context.Context, n int) {
	o := &w.p.opts
	for n > 0 {
		step := min(n, o.Step, len(w.spare))
		if step == 0 {
			break
		}
		for range step {
			if !w.add(ctx) {
				return
			}
		}
		n = max(o.High, int(w.p.line.wanted.Load())+o.OrdinaryMark) - w.p.ready.depth()
	}
}

// add asks the source for one element.
func (w *worker[T]) add(ctx context.Context) bool {
	p := w.p
	if ctx.Err() != nil {
		return false
	}
	p.asking.Store(true)
	defer p.asking.Store(false)
	e, err := p.src.Alloc(ctx)
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
		p.dispose(i, nil)
		p.work.shrunk.Add(1)
		return false
	}
	p.line.ring()
	return true
}

// failed puts off the next try.
func (w *worker[T]) failed(err error) {
	w.p.work.sourceErrors.Add(1)
	w.p.work.lastError.Store(&err)
	w.backoff = min(max(2*w.backoff, firstBackoff), w.p.opts.MaxBackoff)
	w.retryAt = time.Now().Add(w.backoff)
}

// shrink frees n elements, or fewer where the level falls to High or Close was called.
func (w *worker[T]) shrink(n int) {
	p := w.p
	for range n {
		if p.ready.depth() <= p.opts.High {
			return
		}
		i, _, _ := p.ready.pop(0, barred(Ordinary))
		if i == 0 {
			return
		}
		p.removed.Add(1)
		w.spare = append(w.spare, i)
		p.work.shrunk.Add(1)
		p.asking.Store(true)
		p.dispose(i, nil)
		p.asking.Store(false)
	}
}

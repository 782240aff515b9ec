package respool

import (
	"math"
	"time"
)

// surplus is how many elements the pool has had too many for IdleAfter and is now to
// free: a part of them, so that a pause in the load does not cost all. None is freed before all are as
// old as MinAge.
func (w *worker[T]) surplus(s sight) int {
	o := &w.p.opts
	if s.low <= o.High || s.wanted > 0 {
		w.calmSince, w.calmLow = s.at, math.MaxInt
		return 0
	}
	w.calmLow = min(w.calmLow, s.low)
	if s.at.Sub(w.calmSince) < o.IdleAfter || s.at.Sub(w.grownAt) < o.MinAge {
		return 0
	}
	excess := min(w.calmLow-o.High, int(w.p.total.Load())-o.Min)
	w.calmSince, w.calmLow = s.at, math.MaxInt
	return min(max(o.Step, excess/4), excess)
}

// shrink frees n elements, or fewer where the level falls to High or Close was called.
func (w *worker[T]) shrink(n int) {
	p, begin, freed := w.p, time.Now(), 0
	defer func() { p.showShrunk(freed, begin) }()
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
		w.level--
		p.work.shrunk.Add(1)
		w.outside(func() { p.dispose(i, nil) })
		freed++
	}
}

// An idleness keeps the lowest number free: since some time, for at most a window, and in the window before.
type idleness struct {
	since       time.Time
	low, before int
}

// saw takes in a look and says how many elements were free all the time, for one window at least once
// there was one.
func (l *idleness) saw(now time.Time, low int, window time.Duration) int {
	l.low = min(l.low, low)
	idle := min(l.low, l.before)
	if now.Sub(l.since) >= window {
		l.since, l.before, l.low = now, l.low, math.MaxInt
	}
	return idle
}

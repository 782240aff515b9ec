package measure

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"time"
)

// A lane is one goroutine's part of a cell.
type lane struct {
	w        Worker
	burst    int
	slots    int
	clock    int64
	samples  int // of each kind at most; 0 is no limit
	patience time.Duration
	record   *record
	found    record
	taken    int // samples in this phase
	since    int // pairs since the last flush
	err      error
}

func newLane(r *record, w Worker, p *Plan) *lane {
	l := &lane{w: w, burst: r.cell.burst(), slots: r.cell.Shape.slots(), clock: r.clock, samples: p.Samples, patience: p.Patience, record: r}
	l.found.cell = r.cell
	for _, t := range l.found.all() {
		*t = newTimes(r.digits())
	}
	return l
}

// together has all lanes take samples at once until the budget is used up.
func together(ctx context.Context, lanes []*lane, budget time.Duration, take func(*lane)) error {
	var ready, done sync.WaitGroup
	start := make(chan struct{})
	until := int64(0)
	ready.Add(len(lanes))
	for _, l := range lanes {
		done.Go(func() {
			ready.Done()
			<-start
			l.taken = 0
			for l.err == nil && ctx.Err() == nil && (l.samples == 0 || l.taken < l.samples) {
				take(l)
				if now() > until {
					return
				}
			}
		})
	}
	ready.Wait()
	until = now() + int64(budget)
	close(start)
	done.Wait()
	for _, l := range lanes {
		if l.err != nil {
			return l.err
		}
	}
	return ctx.Err()
}

// mapSlot maps, and tries again while that is refused.
func (l *lane) mapSlot(slot int) {
	if err := l.w.Map(slot); err != nil {
		l.again(err, func() error { return l.w.Map(slot) })
	}
}

// again tries what was refused, or failed.
func (l *lane) again(err error, try func() error) {
	for begin := now(); err != nil; err = try() {
		if !Dry(err) {
			l.err = err
			return
		}
		if now()-begin > int64(l.patience) {
			l.err = fmt.Errorf("%w for %v: %w", ErrDry, l.patience, err)
			return
		}
		l.found.refused++
		runtime.Gosched()
	}
}

func (l *lane) unmap(slot int) {
	if err := l.w.Unmap(slot); err != nil {
		l.err = err
	}
}

// ended counts a pair, and flushes after a burst.
func (l *lane) ended() {
	l.since++
	if l.since >= l.burst {
		l.since = 0
		if err := l.w.Flush(); err != nil {
			l.err = err
		}
	}
}

// pairsOf maps and unmaps n times.
func (l *lane) pairsOf(n int) {
	if p, ok := l.w.(Pairer); ok {
		l.pairsBy(p, n)
		return
	}
	for i := range n {
		slot := i % l.slots
		if l.mapSlot(slot); l.err != nil {
			return
		}
		if l.unmap(slot); l.err != nil {
			return
		}
		l.ended()
	}
}

// pairsBy has a Pairer make n pairs, a burst at a time.
func (l *lane) pairsBy(p Pairer, n int) {
	for n > 0 && l.err == nil {
		want := min(n, l.burst-l.since)
		if l.burst == 1 {
			want = n // each pair is flushed, or nothing is
		}
		done, err := p.Pairs(want)
		if err != nil {
			l.again(err, func() error { _, err := p.Pairs(1); return err })
			done++
		}
		n -= done
		if l.err == nil {
			l.paired(done)
		}
	}
}

// paired counts pairs, and flushes after a burst.
func (l *lane) paired(n int) {
	l.since += n - 1
	l.ended()
}

// warm runs pairs for a time.
func (l *lane) warm(ctx context.Context, budget time.Duration) error {
	begin := now()
	for n := 0; l.err == nil && ctx.Err() == nil && (n == 0 || now()-begin < int64(budget)); n++ {
		l.pairsOf(l.burst)
		if l.samples > 0 && n >= l.samples {
			break
		}
	}
	if l.err != nil {
		return l.err
	}
	return ctx.Err()
}

// pairGroup takes the time of a group of pairs.
func (l *lane) pairGroup() {
	begin := now()
	l.pairsOf(l.record.group)
	if l.err == nil {
		l.found.pairs.add(now() - begin)
		l.found.done += int64(l.record.group)
		l.taken++
	}
}

// burstGroup takes the time of Maps alone and of Unmaps alone, their flush included. Where a Map was refused the
// waiting is no part of a Map, so there is none.
func (l *lane) burstGroup() {
	refused := l.found.refused // those of the groups of pairs are told
	defer func() { l.found.refused = refused }()
	begin := now()
	mapped := 0
	for mapped < l.slots && l.err == nil {
		if l.mapSlot(mapped); l.err == nil {
			mapped++
		}
	}
	middle := now()
	failed := l.err // what is mapped is unmapped all the same
	for slot := range mapped {
		l.unmap(slot)
		l.ended()
	}
	if l.err = first(failed, l.err); l.err != nil {
		return
	}
	if l.found.refused == refused {
		l.found.maps.add(middle - begin)
	}
	l.found.unmaps.add(now() - middle)
	l.taken++
}

// singles takes the times of single calls, one for each slot. A Map that is refused
// is a time of Map, too.
func (l *lane) singles() {
	for slot := range l.slots {
		begin := now()
		err := l.w.Map(slot)
		middle := now()
		l.found.oneMap.add(middle - begin - l.clock)
		switch {
		case err == nil:
		case Dry(err):
			l.found.refusedOne++
			runtime.Gosched()
			continue
		default:
			l.err = err
			return
		}
		between := now()
		l.unmap(slot)
		l.ended()
		end := now()
		l.found.oneUn.add(end - between - l.clock)
		l.found.onePair.add(end - between + middle - begin - 2*l.clock)
		if l.err != nil {
			return
		}
	}
	l.taken += l.slots
}

// allocations is what a pair allocates on the Go heap, whole allocations as go test
// -benchmem tells them.
func (l *lane) allocations(ctx context.Context) (float64, error) {
	const least = 256
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	n := 0
	for begin := now(); n == 0 || n < least && now()-begin < int64(100*time.Millisecond); n += l.burst {
		if l.pairsOf(l.burst); l.err != nil {
			return 0, l.err
		}
	}
	runtime.ReadMemStats(&after)
	return float64((after.Mallocs - before.Mallocs) / uint64(n)), ctx.Err()
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

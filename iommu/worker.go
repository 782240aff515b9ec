package iommu

import (
	"context"
	"time"
)

// A sweeper gives back what was unmapped and nobody else gave back, for those who may sleep: the worker,
// Flush, and what is closing.
type sweeper struct {
	turn  chan struct{} // full while somebody is at it
	lists []flushed
	seen  []uint64 // by shard: unmaps at the worker's last look
}

// take waits for the turn, or for the end of ctx.
func (w *sweeper) take(ctx context.Context) error {
	select {
	case w.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (w *sweeper) leave() { <-w.turn }

// flushed is a list that is free when more flushes than stamp are done.
type flushed struct {
	head  uint32
	stamp uint64
}

// gather takes over the lists of the shards; those that the worker leaves to their processors, because they are
// busy, only if all are asked for. It returns the flush that is needed for all that is there.
func (d *Domain) gather(all bool) (want uint64) {
	w := &d.sweeper
	for i := range d.shards {
		s := &d.shards[i]
		n := s.unmaps.get()
		busy := d.opts.Flush.Policy == Batched && n-w.seen[i] >= uint64(d.opts.Flush.Count)
		w.seen[i] = n
		if busy && !all {
			continue
		}
		if head := s.waiting.Swap(0); head != 0 {
			w.lists = append(w.lists, flushed{head, s.stamp.Load()})
		}
		if head := s.pending.Swap(0); head != 0 {
			stamp := d.flusher.started.Load()
			if !keep(stepGather) {
				stamp = 0
			}
			d.coverList(head, stamp+1)
			w.lists = append(w.lists, flushed{head, stamp})
		}
	}
	if head := d.strayed.Swap(0); head != 0 {
		stamp := d.flusher.started.Load()
		d.coverList(head, stamp+1)
		w.lists = append(w.lists, flushed{head, stamp})
	}
	for _, l := range w.lists {
		want = max(want, l.stamp+1)
	}
	return want
}

// sweep gives back what was flushed of the lists that gather took over.
func (d *Domain) sweep() {
	w, done := &d.sweeper, d.flusher.done.Load()
	left := w.lists[:0]
	for _, l := range w.lists {
		if l.stamp >= done {
			left = append(left, l)
			continue
		}
		for l.head != 0 {
			r := &d.records[l.head]
			l.head = r.next
			d.finish(nil, r)
		}
	}
	w.lists = left
}

// giveLate gives back windows for which somebody has to sleep: their tables may have to be flushed. Nobody waits for
// who is at it.
func (d *Domain) giveLate() {
	for head := d.late.Swap(0); head != 0; {
		r := &d.records[head]
		head = r.next
		win, region := r.win, d.regions.get(regionOf(r.state.Load()))
		r.end()
		d.retire(region)
		if err := d.space.FreeWait(win); err != nil {
			d.tell(err)
		}
	}
}

// tell reports what no call can return.
func (d *Domain) tell(err error) {
	if err != nil && d.opts.OnError != nil {
		d.opts.OnError(err)
	}
}

// work is the worker: it keeps the deadline of what was unmapped, and gets units that failed going again.
func (d *Domain) work(ctx context.Context) {
	defer close(d.stopped)
	interval := max(d.opts.Flush.Deadline/2, pause)
	if d.opts.Flush.Policy == Strict {
		interval = strictInterval
	}
	t := time.NewTicker(interval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			d.look()
			if d.opts.OnCheck != nil {
				_ = d.tellCheck()
			}
			d.upkeep()
		}
	}
}

// strictInterval is how often the worker of a strict domain looks whether a unit failed.
const strictInterval = 50 * time.Millisecond

// look is one turn of the worker.
func (d *Domain) look() {
	if d.flusher.failed.Load() {
		d.tell(d.flusher.recover())
	}
	if d.sweeper.take(context.Background()) == nil {
		if want := d.gather(false); want != 0 {
			d.flusher.kick(want)
		}
		d.sweep()
		d.sweeper.leave()
	}
	d.giveLate()
}

// Flush begins a flush of all that was unmapped, waits until it is done, and gives back what waited for
// it. If a unit has failed it tries to get it going first. It may sleep.
func (d *Domain) Flush(ctx context.Context) error {
	err := d.errs.closed
	if !d.closed.Load() {
		err = d.flush(ctx)
	}
	if err == nil {
		err = d.reap()
	}
	if err != nil {
		return &OpError{Op: opFlush, Domain: d.opts.Name, Err: err}
	}
	return nil
}

func (d *Domain) flush(ctx context.Context) error {
	if err := d.sweeper.take(ctx); err != nil {
		return err
	}
	d.gather(true)
	err := d.flusher.flush(ctx)
	if err == nil {
		d.sweep()
	}
	d.sweeper.leave()
	if err == nil {
		d.giveLate()
	}
	return err
}

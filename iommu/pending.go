package iommu

import (
	"sync/atomic"

	"gommu/internal/probe"
)

// push puts record n at the head of a list.
//
//gommu:nosleep
func push(list *atomic.Uint32, records []record, n uint32) (old uint32) {
	for {
		old = list.Load()
		records[n].next = old
		if list.CompareAndSwap(old, n) {
			return old
		}
	}
}

// leave puts a record that was cleared among those that wait for a flush, and sees to it that there is one in
// time.
//
//gommu:nosleep
func (d *Domain) leave(rec *record) error {
	n, size := rec.win.Number, rec.win.Size
	s := d.seize()
	if s == nil {
		s.unpin()
		push(&d.strayed, d.records, n)
		return nil
	}
	if push(&s.pending, d.records, n) == 0 {
		s.count, s.bytes = 0, 0
	}
	s.count++
	s.bytes += size
	s.unmaps.add(1)
	full := s.count >= d.opts.Flush.Count || s.bytes >= d.opts.Flush.Bytes
	if !full && s.count%reclaimEvery != 0 {
		s.unpin()
		return nil
	}
	want, late := d.tend(s, full)
	s.unpin()
	if want == 0 {
		return nil
	}
	d.flusher.kick(want)
	if !late {
		return nil
	}
	return d.catchUp(want)
}

// tend gives back some of what was flushed, and if the list of what comes in is full moves it on. It returns the
// number of the flush that is needed next, if any, and whether that is late: twice as much as there may
// be has come in. The caller is pinned to the shard.
//
//gommu:nosleep
func (d *Domain) tend(s *shard, full bool) (want uint64, late bool) {
	if s.waiting.Load() != 0 {
		stamp := s.stamp.Load()
		if d.flusher.done.Load() <= stamp {
			return stamp + 1, full && (s.count >= 2*d.opts.Flush.Count || s.bytes >= 2*d.opts.Flush.Bytes)
		}
		n := reclaimSome
		if full {
			n = reclaimMany
		}
		if !d.reclaim(s, n) {
			return 0, false
		}
	}
	if !full {
		return 0, false
	}
	return d.moveOn(s), false
}

// moveOn makes pending, if there is any, waiting, which is empty, and returns the number of the flush that it
// waits for.
//
//gommu:nosleep
func (d *Domain) moveOn(s *shard) (want uint64) {
	list := s.pending.Swap(0)
	if list == 0 {
		return 0
	}
	stamp := d.flusher.started.Load()
	if !keep(stepStamp) {
		stamp = 0
	}
	if probe.On(probe.Flush) {
		d.flusher.cover.add(stamp+1, uint64(s.count), s.bytes)
	}
	s.stamp.Store(stamp)
	s.waiting.Store(list)
	s.count, s.bytes = 0, 0
	return stamp + 1
}

// reclaim gives back up to n records of waiting, which was flushed, and says whether it is empty then.
//
//gommu:nosleep
func (d *Domain) reclaim(s *shard, n int) (empty bool) {
	list := s.waiting.Swap(0)
	for ; n > 0 && list != 0; n-- {
		r := &d.records[list]
		next := r.next
		if d.check == nil && r.simple() {
			w := r.win // as finish does
			r.end()
			_ = s.windows.Free(w)
		} else {
			d.finish(s, r)
		}
		list = next
	}
	if list == 0 {
		return true
	}
	s.waiting.Store(list)
	return false
}

// catchUp waits for flush number want, as far as flusher.wait does: the Unmap itself needs nothing of it.
//
//gommu:nosleep
func (d *Domain) catchUp(want uint64) error {
	if !d.flusher.wait(want) {
		return d.errs.flush
	}
	return nil
}

// reclaimDry is for a Map that found nothing: it flushes what was unmapped, on this processor or, if there is
// nothing, on another one, and gives some of it back, if the unit is that fast. It says whether
// there is any.
//
//gommu:nosleep
func (d *Domain) reclaimDry() bool {
	s := d.pin()
	if s == nil {
		return false
	}
	if d.closed.Load() {
		s.unpin() // Close takes the shards apart
		return false
	}
	want := d.wanted(s)
	s.unpin()
	if want == 0 {
		return false
	}
	if d.flusher.done.Load() < want {
		d.flusher.kick(want)
	}
	if s = d.pin(); s == nil {
		return false
	}
	found := !d.closed.Load() && s.waiting.Load() != 0 && d.flusher.done.Load() > s.stamp.Load()
	if found {
		d.reclaim(s, reclaimMany)
	}
	s.unpin()
	return found
}

// wanted sees that a shard has something in waiting, and returns the flush that this waits for, or 0 if there is nothing anywhere. The
// caller is pinned to the shard.
//
//gommu:nosleep
func (d *Domain) wanted(s *shard) uint64 {
	if s.waiting.Load() != 0 {
		return s.stamp.Load() + 1
	}
	if want := d.moveOn(s); want != 0 {
		return want
	}
	for i := range d.shards {
		other := &d.shards[i]
		stamp := uint64(0)
		list := other.waiting.Swap(0)
		if list != 0 {
			stamp = other.stamp.Load()
		} else if list = other.pending.Swap(0); list != 0 {
			stamp = d.flusher.started.Load()
			d.coverList(list, stamp+1)
		}
		if list != 0 {
			s.stamp.Store(stamp)
			s.waiting.Store(list)
			return stamp + 1
		}
	}
	return 0
}

package iommu

import (
	"runtime"
	"sync/atomic"

	"gommu/internal/cacheline"
	"gommu/iommu/iova"
	"gommu/respool"
)

// A shard is what the goroutines of one processor touch. They do so pinned, one at a time, for
// a few instructions: to take a window, to leave a mapping for the next flush, to give back what
// was flushed. The table is written while they are not pinned.
type shard struct {
	guard
	windows *iova.Cache
	extra   *respool.Cache[uint32] // numbers of records without a window

	// What was unmapped, linked by record.next: since the last flush was asked for, and
	// before. Only the shard's goroutines put something in; anybody may take it all, by one swap.
	pending, waiting atomic.Uint32
	stamp            atomic.Uint64 // of all in waiting: see flusher
	count            int           // of pending, or more: others take it without telling
	bytes            uint64

	at uint32 // of a premapped domain: the record of the shard's own that was free last

	maps, unmaps word
	_            [cacheline.Size]byte
}

// How many records a call gives back at most, besides its own: few, so that no call takes long, but
// twice as many as come in.
const (
	reclaimEvery = 8
	reclaimSome  = 2 * reclaimEvery
	reclaimMany  = 64 // when somebody finds nothing ready
)

// newShards makes one for each processor that there may be.
func (d *Domain) newShards() {
	d.shards = make([]shard, shardCount())
	for i := range d.shards {
		s := &d.shards[i]
		if d.space != nil {
			s.windows = d.space.NewCache(0)
		}
		s.extra = d.extra.NewCache(extraCache)
	}
}

const extraCache = 64

func shardCount() int { return max(runtime.GOMAXPROCS(0), runtime.NumCPU()) }

// closeShards gives what the caches hold back to the pools. Nobody is pinned any more.
func (d *Domain) closeShards() error {
	for i := range d.shards {
		s := &d.shards[i]
		if s.windows != nil {
			if err := s.windows.Close(); err != nil {
				return err
			}
		}
		if err := s.extra.Close(); err != nil {
			return err
		}
	}
	return nil
}

// takeWindow hands out a window of n bytes and its record, which is in the phase mapping.
//
//gommu:nosleep
func (d *Domain) takeWindow(n uint64, region uint32) (*record, error) {
	r, err := d.tryWindow(n, region)
	if r == nil && err != d.errs.closed && d.reclaimDry() {
		return d.tryWindow(n, region)
	}
	return r, err
}

//gommu:nosleep
func (d *Domain) tryWindow(n uint64, region uint32) (*record, error) {
	s := d.pin()
	if s == nil {
		return d.sharedWindow(n, region)
	}
	if d.closed.Load() {
		s.unpin()
		return nil, d.errs.closed
	}
	w, err := s.windows.Alloc(n)
	if err != nil {
		s.unpin()
		return nil, err
	}
	r := &d.records[w.Number]
	r.begin(region)
	s.maps.add(1)
	s.unpin()
	r.win = w
	return r, nil
}

// sharedWindow is for processors without a shard.
//
//gommu:nosleep
func (d *Domain) sharedWindow(n uint64, region uint32) (*record, error) {
	d.strays.Add(1)
	defer d.strays.Add(-1)
	if d.closed.Load() {
		return nil, d.errs.closed
	}
	w, err := d.space.Alloc(n)
	if err != nil {
		return nil, err
	}
	r := &d.records[w.Number]
	r.begin(region)
	r.win = w
	return r, nil
}

// takeExtra hands out a record without a window, in the phase mapping.
//
//gommu:nosleep
func (d *Domain) takeExtra(region uint32) (uint32, error) {
	s := d.pin()
	if s == nil {
		d.strays.Add(1)
		defer d.strays.Add(-1)
		if d.closed.Load() {
			return 0, d.errs.closed
		}
		n, err := d.extra.Get()
		if err == nil {
			d.records[n].begin(region)
		}
		return n, err
	}
	if d.closed.Load() {
		s.unpin()
		return 0, d.errs.closed
	}
	n, err := s.extra.Get()
	if err == nil {
		d.records[n].begin(region)
		s.maps.add(1)
	}
	s.unpin()
	return n, err
}

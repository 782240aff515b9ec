//go:build !race

package iommu

import "gommu/internal/procpin"

// A guard is what keeps a shard to one goroutine at a time: being pinned to its
// processor is enough.
type guard struct{}

// pin keeps the caller on its processor until unpin, and returns the shard that is that processor's,
// or nil if there is none, because GOMAXPROCS was raised. Nobody may wait meanwhile. If not
// even that can be had, it is unpinned already.
//
//gommu:nosleep
func (d *Domain) pin() *shard {
	if i := procpin.Pin(); uint(i) < uint(len(d.shards)) {
		return &d.shards[i]
	}
	procpin.Unpin()
	return nil
}

// seize is pin, but the caller is pinned even if there is no shard, and unpins then too. Unlike pin it is inlined.
//
//gommu:nosleep
func (d *Domain) seize() *shard {
	if i := procpin.Pin(); uint(i) < uint(len(d.shards)) {
		return &d.shards[i]
	}
	return nil
}

//gommu:nosleep
func (s *shard) unpin() { procpin.Unpin() }

func (guard) pass() {}

package iommu

// Stats say what a domain has and has done. While calls are under way each number is right for some
// moment during Stats.
type Stats struct {
	Live    int    // mappings
	Pending int    // mappings that were unmapped and wait for a flush
	Flushes uint64 // of all of the domain: those of a strict Unmap and of rings not among them
	Maps    uint64 // that were begun, rings' not among them
	Unmaps  uint64 // rings' not among them
	Devices int
	Regions int
	Rings   int
	// Failed says that a unit does not answer at this moment: what was unmapped stays pending.
	Failed bool
}

// Stats returns the present state and counters. It looks at all records, which takes up to milliseconds, and takes a mutex.
func (d *Domain) Stats() Stats {
	s := Stats{Flushes: d.flusher.started.Load(), Failed: d.flusher.failed.Load()}
	s.Regions = len(d.regions.all())
	s.Live, _, s.Pending = d.census(0)
	for i := range d.shards {
		s.Maps += d.shards[i].maps.get()
		s.Unmaps += d.shards[i].unmaps.get()
	}
	if d.table == nil {
		s.Unmaps = max(s.Maps, uint64(s.Live)) - uint64(s.Live) // they are not counted
	}
	for _, r := range *d.rings.Load() {
		if r != nil {
			s.Rings++
		}
	}
	d.life.Lock()
	s.Devices = len(d.devices)
	d.life.Unlock()
	return s
}

package iova

import "gommu/respool"

// counts are counted under Space.mu.
type counts struct {
	prepared                    [levels]int
	prepareErrors, retireErrors uint64
}

// Stats say how a space stands.
type Stats struct {
	Classes [Classes]ClassStats

	Windows int // that exist: ready, in caches, out, and those of AllocWait and rings
	Waits   int // windows of AllocWait, and rings

	Free    uint64 // bytes of range that nothing has taken, in Ranges
	Ranges  int    // free ranges
	Largest uint64 // bytes of the largest free range

	Searches, Steps uint64 // searches for a free range, and how many ranges all of them looked at

	Chunks, Areas int // blocks of level 0 and 1 that are prepared
	Retiring      int // of these, how many wait for a Retire that failed or is under way

	PrepareErrors, RetireErrors uint64 // calls that failed
}

// ClassStats say how a class of windows stands.
type ClassStats struct {
	Pool   respool.Stats
	Chunks int // of 2 MiB that are cut into windows of the class
}

// Stats returns the present state and counters. It may wait for a moment, but not for hooks.
func (s *Space) Stats() Stats {
	var st Stats
	for k, p := range s.pools {
		if p != nil {
			st.Classes[k].Pool = p.Stats()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, c := range s.carvers {
		if c != nil {
			st.Classes[k].Chunks = c.inUse
		}
	}
	st.Windows = s.numbers.out()
	st.Waits = s.waits
	st.Free = s.free.free << pageBits
	st.Ranges = s.free.count
	st.Largest = s.free.nodes[s.free.root].longest << pageBits
	st.Searches, st.Steps = s.free.searches, s.free.steps
	st.Chunks, st.Areas = s.counts.prepared[chunkLevel], s.counts.prepared[areaLevel]
	st.Retiring = s.retiring + len(s.lates)
	st.PrepareErrors, st.RetireErrors = s.counts.prepareErrors, s.counts.retireErrors
	return st
}

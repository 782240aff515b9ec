package vtd

// Stats counts what a unit was told and what went wrong.
type Stats struct {
	Submissions uint64 // to the invalidation queue, of one wait each
	Descriptors uint64 // in these, without the waits

	BadDescriptors uint64 // IQE: the unit stopped at a descriptor
	Timeouts       uint64 // ITE: a device did not answer
	Completions    uint64 // ICE: a device answered what nobody had asked

	Faults     uint64 // taken from the unit's records
	FaultsLost uint64 // times that the unit said that it had no room for one
}

// Stats returns the counts since Open.
func (u *Unit) Stats() Stats {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.turn.take()
	defer u.turn.leave()
	return u.stats
}

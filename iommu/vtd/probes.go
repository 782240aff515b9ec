package vtd

import "gommu/internal/probe"

// tellFaults tells tracers of faults that were taken from the records.
func (u *Unit) tellFaults(faults []Fault, overflow bool) {
	if overflow && len(faults) == 0 {
		probe.CallFault(0, probe.Several, 0, probe.AccessLost, 0, 0)
	}
	for i, f := range faults {
		access := f.probed()
		if overflow && i == len(faults)-1 {
			access |= probe.AccessLost
		}
		probe.CallFault(u.subjectOf(f), uint64(f.Source), f.IOVA, access, uint64(f.Reason), uint64(f.PASID))
	}
}

// subjectOf is the number by which tracers know the domain that a fault is of, 0 if it is of none.
func (u *Unit) subjectOf(f Fault) uint64 {
	pasid := uint32(noPASID)
	if f.HasPASID {
		pasid = f.PASID
	}
	if b := u.bindings[u.entries[place{f.Source, pasid}]]; b != nil {
		return b.subject
	}
	return 0
}

// probed is what was tried, as tracers are told it.
func (f Fault) probed() (access uint64) {
	for _, x := range []struct {
		set bool
		bit uint64
	}{
		{f.Write, probe.AccessWrite}, {f.HasPASID, probe.AccessPASID}, {f.Atomic, probe.AccessAtomic},
		{f.PageRequest, probe.AccessPageRequest}, {f.Execute, probe.AccessExecute}, {f.Privileged, probe.AccessPrivileged},
	} {
		if x.set {
			access |= x.bit
		}
	}
	return access | uint64(f.AddressType)<<probe.AccessTypeShift
}

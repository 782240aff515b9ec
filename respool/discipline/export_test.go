package discipline

import "time"

// BeginClose closes d's gate for gets, as Close does first, and does nothing else yet.
func BeginClose(d Discipline[int]) {
	switch d := d.(type) {
	case *AllocatorFirst[int]:
		d.gate.state.Or(closing)
	case *PerCPU[int]:
		d.gate.state.Or(closing)
	case *Static[int]:
		d.gate.state.Or(closing)
	}
}

// OnlyPutsWake keeps a wait of an AllocatorFirst from ending by time.
func OnlyPutsWake(d Discipline[int]) {
	if a, ok := d.(*AllocatorFirst[int]); ok {
		a.timeout = 24 * time.Hour
	}
}

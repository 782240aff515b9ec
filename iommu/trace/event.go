package trace

import (
	"time"

	"gommu/internal/probe"
	"gommu/iommu"
	"gommu/iommu/vtd"
)

// An Event is a fault, or a call that took longer than Options.SlowerThan.
type Event struct {
	At        time.Duration   `json:"at_ns"` // of the machine's monotonic clock
	Operation Operation       `json:"operation"`
	Result    uint16          `json:"result"` // as in Tally; of a fault the reason
	Process   uint32          `json:"process"`
	Thread    uint32          `json:"thread"`
	Domain    uint64          `json:"domain,omitempty"` // its number in the process
	Source    Source          `json:"source"`
	Pool      uint64          `json:"pool,omitempty"` // of an operation of a pool
	IOVA      uint64          `json:"iova"`
	Size      uint64          `json:"size,omitempty"`
	Items     uint64          `json:"items,omitempty"`
	Direction iommu.Direction `json:"direction,omitempty"`
	Time      time.Duration   `json:"ns,omitempty"`

	// Fault is what a unit recorded, of the operations Fault and KernelFault.
	Fault *vtd.Fault `json:"fault,omitempty"`
	// Skipped says that the unit had no room for faults after this one, or after one that the kernel took together with it.
	Skipped bool `json:"skipped,omitempty"`

	// Stack is return addresses, the innermost first: in the process, or in the kernel for its calls.
	Stack []uint64 `json:"stack,omitempty"`
}

// event makes an Event of a note, but for the stack.
func (n *note) event() Event {
	e := Event{
		At: time.Duration(n.At), Operation: Operation(n.Operation), Result: n.Result,
		Process: n.Process, Thread: n.Thread,
		Domain: n.Domain, IOVA: n.IOVA,
	}
	e.Source, e.Pool = subject(e.Operation, n.Source)
	switch {
	case e.Operation == Fault:
		e.Skipped = n.Extra&probe.AccessLost != 0
		if e.Source != Several { // else it is only that: there was no room
			e.Fault = n.fault()
		}
	case e.Operation == KernelFault:
		f, _ := vtd.DecodeFault(n.IOVA, n.Time)
		e.Fault, e.IOVA, e.Skipped = &f, f.IOVA, n.Extra&statusOverflow != 0
	case e.Operation.Items() != "":
		e.Size, e.Time, e.Items = n.Size, time.Duration(n.Time), n.Extra
	default:
		e.Size, e.Time, e.Direction = n.Size, time.Duration(n.Time), iommu.Direction(n.Extra)
	}
	if n.Caller != 0 {
		e.Stack = append(e.Stack, n.Caller)
	}
	return e
}

// subject is what an operation was for: a device, or a pool.
func subject(o Operation, number uint64) (device Source, pool uint64) {
	if o.OfPool() {
		return Several, number
	}
	return Source(number), 0
}

// fault is what the library told of a fault that it took.
func (n *note) fault() *vtd.Fault {
	has := func(bit uint64) bool { return n.Extra&bit != 0 }
	return &vtd.Fault{
		Reason: vtd.Reason(n.Result), Source: uint16(n.Source), IOVA: n.IOVA,
		Write: has(probe.AccessWrite), Atomic: has(probe.AccessAtomic), PageRequest: has(probe.AccessPageRequest),
		AddressType: vtd.AddressType(n.Extra >> probe.AccessTypeShift & 3),
		HasPASID:    has(probe.AccessPASID), PASID: uint32(n.Size),
		Execute: has(probe.AccessExecute), Privileged: has(probe.AccessPrivileged),
	}
}

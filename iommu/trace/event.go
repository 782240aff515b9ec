package trace

import "time"

// An Event is a fault, or a call that took longer than Options.SlowerThan.
type Event struct {
	At        time.Duration `json:"at_ns"` // of the machine's monotonic clock
	Operation Operation     `json:"operation"`
	Result    uint16        `json:"result"` // as in Tally; of a fault the reason
	Process   uint32        `json:"process"`
	Thread    uint32        `json:"thread"`
	Domain    uint64        `json:"domain,omitempty"`
	Source    Source        `json:"source"`
	IOVA      uint64        `json:"iova"`
	Size      uint64        `json:"size,omitempty"`
	Time      time.Duration `json:"ns,omitempty"`

	// Of a fault of the library's.
	Write   bool   `json:"write,omitempty"`
	PASID   uint64 `json:"pasid,omitempty"`
	Paged   bool   `json:"has_pasid,omitempty"` // PASID counts
	Skipped bool   `json:"skipped,omitempty"`   // the unit had no room for the faults after it

	// Stack is return addresses, the innermost first: in the process, or in the kernel for its calls.
	Stack []uint64 `json:"stack,omitempty"`
}

// event makes an Event of a note, but for the stack.
func (n *note) event() Event {
	e := Event{
		At: time.Duration(n.At), Operation: Operation(n.Operation), Result: n.Result,
		Process: n.Process, Thread: n.Thread,
		Domain: n.Domain, Source: Source(n.Source), IOVA: n.IOVA,
	}
	switch e.Operation {
	case Fault:
		e.Write, e.Paged, e.Skipped = n.Time&1 != 0, n.Time&2 != 0, n.Time&4 != 0
		e.PASID = n.Size
	default:
		e.Size, e.Time = n.Size, time.Duration(n.Time)
	}
	if n.Caller != 0 {
		e.Stack = append(e.Stack, n.Caller)
	}
	return e
}

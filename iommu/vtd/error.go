package vtd

import (
	"errors"
	"fmt"
	"strings"

	"gommu/iommu"
)

var (
	// ErrGone reports a unit whose registers read as all ones: it was removed,
	// or what emulates it has ended.
	ErrGone = fmt.Errorf("%w (its registers read as all ones)", iommu.ErrGone)
	// ErrTimeout reports a unit that did not finish a command in time.
	ErrTimeout = errors.New("unit did not answer in time")
	// ErrActive reports a unit that somebody else has left enabled.
	ErrActive = errors.New("unit is in use")
	// ErrUnsupported reports something that the unit cannot do.
	ErrUnsupported = errors.New("not supported by the unit")
	// ErrNotEnabled reports that translation is off.
	ErrNotEnabled = errors.New("translation is not enabled")
	// ErrUnsettled reports that an Enable failed and could not be undone either:
	// the unit may translate. Call Enable or Disable until one succeeds.
	ErrUnsettled = errors.New("translation may be on: enabling and disabling failed")
	// ErrAttached reports a requester id that has a context entry already.
	ErrAttached = errors.New("device is attached already")
	// ErrNotAttached reports a requester id without a context entry.
	ErrNotAttached = errors.New("device is not attached")
	// ErrDomainID reports domain id 0, which caching mode reserves, or one that
	// the unit does not have.
	ErrDomainID = errors.New("bad domain id")
	// ErrDomainBusy reports a domain id that stands for another table, or that
	// something is attached to.
	ErrDomainBusy = errors.New("domain id is in use")
	// ErrTooMany reports more devices with TLBs, or PASIDs, in one domain than one
	// flush can tell.
	ErrTooMany = errors.New("too many devices with TLBs, or PASIDs, in one domain")
	// ErrPASID reports a PASID that cannot be attached.
	ErrPASID = errors.New("bad PASID")
	// ErrTable reports a page table that the unit cannot walk.
	ErrTable = errors.New("table does not fit the unit")
	// ErrRange reports an empty range of IOVAs, or one that wraps around.
	ErrRange = errors.New("bad IOVA range")
	// ErrNotInvalidated reports that the unit refused an invalidation given
	// through its registers: it says that it performed none.
	ErrNotInvalidated = errors.New("unit performed no invalidation")
	// ErrClosed reports a unit that was closed.
	ErrClosed = errors.New("unit is closed")
)

// An OpError is the error of this package.
type OpError struct {
	Op     string // the operation: "open", "enable", "attach", …
	Target string // what it was for, such as "device 00:03.0"; may be empty
	IOVA   uint64 // the range in bytes, if Size is not 0
	Size   uint64
	Err    error
}

func (e *OpError) Error() string {
	var b strings.Builder
	b.WriteString("vtd: " + e.Op)
	if e.Target != "" {
		b.WriteString(" " + e.Target)
	}
	if e.Size != 0 {
		fmt.Fprintf(&b, " iova %#x size %#x", e.IOVA, e.Size)
	}
	return b.String() + ": " + e.Err.Error()
}

func (e *OpError) Unwrap() error { return e.Err }

// A QueueError reports that the unit stopped at a descriptor of the
// invalidation queue (section 6.5.2.11, FSTS_REG in 11.4.7.1, IQERCD_REG).
type QueueError struct {
	Queue      bool      // IQE: the descriptor at Index is bad
	Timeout    bool      // ITE: a device did not answer an invalidation
	Completion bool      // ICE: a device answered one that nobody asked for
	Index      int       // of the descriptor that the queue's head is at
	Descriptor [2]uint64 // that descriptor, low half first
	Info       uint8     // IQEI: what is wrong with it; 0 if the unit does not say
	Source     int       // requester id of the device that did not answer; -1 if the unit does not say
}

func (e *QueueError) Error() string {
	var what []string
	if e.Queue {
		s := "invalid descriptor (IQE)"
		if int(e.Info) < len(queueInfo) && e.Info != 0 {
			s += ": " + queueInfo[e.Info]
		}
		what = append(what, s)
	}
	if e.Timeout {
		s := "device did not answer in time (ITE)"
		if e.Source >= 0 {
			s = requester(uint16(e.Source)) + " did not answer in time (ITE)"
		}
		what = append(what, s)
	}
	if e.Completion {
		what = append(what, "unexpected completion (ICE)")
	}
	return fmt.Sprintf("invalidation queue: %s at descriptor %d (%#016x %#016x)",
		strings.Join(what, ", "), e.Index, e.Descriptor[0], e.Descriptor[1])
}

// queueInfo is what the field IQEI of IQERCD_REG means (11.4.9.9).
var queueInfo = [...]string{
	"", "bad tail pointer", "it cannot be read", "unknown type", "reserved bits are set", "bad width of descriptors",
	"tail pointer is not aligned", "bad mode of the root table",
}

// device names a requester id for an error's Target.
func device(source uint16) string { return "device " + requester(source) }

// requester is a requester id as bus:device.function.
func requester(source uint16) string {
	return fmt.Sprintf("%02x:%02x.%d", source>>8, source>>3&0x1f, source&7)
}

func domain(id uint16) string { return fmt.Sprintf("domain %d", id) }

package iommu

import (
	"fmt"
	"math"
	"time"

	"gommu/pagetable"
	"gommu/respool"
)

// Options configure a Domain. The zero value works.
type Options struct {
	// Name is part of errors and statistics.
	Name string
	// Mask is the highest IOVA to hand out: the smallest DMA mask of the devices
	// that are to be attached. 0 is what the hardware translates.
	Mask uint64
	// Reserved are IOVAs to keep free besides 0xfee00000-0xfeefffff, which no unit translates: what the firmware
	// reserves for the devices (RMRR), windows of other functions.
	Reserved []IOVARange
	// MaxMappings is how many there can be at a time, those that wait for their flush included; 0 is 65536.
	MaxMappings int
	// Flush says when unmapped memory becomes unreachable.
	Flush Flush
	// Guard leaves an unmapped page after each mapping, so that a device that
	// runs over its end faults.
	Guard bool
	// Random places mappings at random, so that IOVAs tell little.
	Random bool
	// Bounce are the buffers that foreign memory is copied through.
	Bounce Bounce
	// NonCoherent says that devices do not snoop the processors' caches: Map, Unmap and Sync flush them.
	NonCoherent bool
	// OnBudget is called by a worker when a premapped domain has used 80 % of the kernel's
	// mappings, and again at each further 5 %.
	OnBudget func(used, limit int)
	// OnError is called by a worker about what no call can return: a unit that fails to flush.
	OnError func(error)
	// Check proves that nothing is reused before its invalidation: see CheckError. It is for tests: calls
	// take microseconds, lock and allocate then.
	Check bool
	// OnCheck is told of each report, by a worker or Close; without it they are part of Close's error.
	OnCheck func(*CheckError)
}

// Tables are what a domain over tables of its own is made of.
type Tables struct {
	Frames *respool.Pool[pagetable.Frame] // of Memory; zero
	Memory *pagetable.Memory
	Table  pagetable.Options // what all units of the domain can walk: vtd.Unit.TableOptions
}

// A Policy says when a unit is told to forget what was unmapped.
type Policy uint8

const (
	// Strict flushes in each Unmap, which waits for the unit.
	Strict Policy = iota
	// Batched flushes many unmaps at once, in the background. Until then the
	// device may still reach what was unmapped.
	Batched
)

// Flush is a flush policy and, for Batched, the bounds of its window: the flush
// of what was unmapped is begun as soon as one of them is passed.
type Flush struct {
	Policy   Policy
	Count    int           // unmaps; 0 is 256
	Bytes    uint64        // 0 is 64 MiB
	Deadline time.Duration // after the first unmap; 0 is 10 milliseconds
}

// Bounce configures a domain's bounce buffers, of 4 KiB, 64 KiB and 1 MiB. The zero value has none in a domain with tables of its own,
// and the default number in a premapped one.
type Bounce struct {
	Off  bool // no bounce buffers, also in a premapped domain
	On   bool // bounce buffers in a domain with tables of its own, too
	Low  int  // slabs of 2 MiB to keep ready; 0 is 1
	High int  // slabs at rest; 0 is 2
	Max  int  // slabs at most; 0 is 64
}

const (
	defaultCount    = 256
	defaultBytes    = 64 << 20
	defaultDeadline = 10 * time.Millisecond
)

// resolve checks what is set and replaces what is not by its default.
func (o Options) resolve() (Options, error) {
	bad := func(format string, args ...any) (Options, error) {
		return o, fmt.Errorf("%w: "+format, append([]any{ErrOptions}, args...)...)
	}
	f := &o.Flush
	switch {
	case o.MaxMappings < 0 || o.MaxMappings > maxMappings:
		return bad("MaxMappings is %d: use up to %d, or leave it zero for the default", o.MaxMappings, maxMappings)
	case f.Policy > Batched:
		return bad("flush policy %d: use Strict or Batched", f.Policy)
	case f.Count < 0 || f.Deadline < 0:
		return bad("the bounds of a flush are negative: leave them zero for the defaults")
	}
	if o.MaxMappings == 0 {
		o.MaxMappings = defaultMappings
	}
	if f.Count == 0 {
		f.Count = defaultCount
	}
	if f.Bytes == 0 {
		f.Bytes = defaultBytes
	}
	if f.Deadline == 0 {
		f.Deadline = defaultDeadline
	}
	if o.Mask == 0 {
		o.Mask = math.MaxUint64
	}
	return o, nil
}

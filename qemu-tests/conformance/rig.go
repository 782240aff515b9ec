package conformance

import (
	"context"

	"gommu/iommu/vtd"
	"gommu/pagetable"
	"gommu/qemu-tests/rung"
)

// A Mode is the way from a device to its page table.
type Mode = rung.Mode

const (
	Legacy         = rung.Legacy
	ScalableSecond = rung.ScalableSecond
	ScalableFirst  = rung.ScalableFirst
)

// Modes are all modes.
var Modes = rung.Modes

// A Place is where cases run: a rung in one mode.
type Place struct {
	Rung string // "model", "qtest", …
	Mode Mode
	QEMU string // its version, empty without one

	// Open makes a rig with a unit of the given variant, or returns an
	// Unavailable. The suite opens the zero Variant once for many cases, and again
	// after a case that left the unit in disorder. One rig is open at a time.
	Open func(context.Context, Variant) (Rig, error)
}

// A Variant is what a case wants of the unit beyond the usual: 48 bits, and what
// the rung has.
type Variant = rung.Variant

// An Unavailable is the error of a Place that cannot open a variant, or of a rig
// that cannot do something. It says why, and the case is skipped with that.
type Unavailable = rung.Unavailable

// A Rig is a unit with what a case needs around it. When it is opened the unit
// is off (not translating, its queue off), and the suite leaves it so between
// cases.
type Rig interface {
	// Registers is the unit's register page.
	Registers() vtd.Registers

	// Tables is memory for frames, 2 MiB or more in all. Unit and process see
	// the same bytes.
	Tables() []pagetable.Segment

	// Data is memory that devices may reach: 2 MiB that lie together on the bus
	// and are aligned to that, and nobody else uses.
	Data() pagetable.Segment

	// Room is more memory that devices may reach and nobody else uses, 4 MiB or more in
	// segments of 2 MiB or more, which are aligned in this process to that.
	Room() []pagetable.Segment

	// Devices can do DMA through the unit. They have different requester ids
	// below 0x80, which are bus 0, devices 0 to 15.
	Devices() [2]Device

	// Nowhere is a bus address, aligned to 4096 and below 2^38, where no memory
	// is: what leads there cannot be read.
	Nowhere() uint64

	// Traits says what the unit shows of what it does.
	Traits() Traits

	// Close ends the rig. The unit is off.
	Close() error
}

// A Device has a buffer and copies between it and memory. What the unit blocks
// is no error: the device reads zeros, and its writes do nothing. The errors are those of
// the rung itself.
type Device interface {
	Source() uint16 // requester id

	// Read fills the first n bytes of the buffer from an IOVA, and Write stores
	// them to one. n is 1 to MaxTransfer. Both return when it is done.
	Read(ctx context.Context, iova uint64, n int) error
	Write(ctx context.Context, iova uint64, n int) error
}

// MaxTransfer is the most that a device copies at once.
const MaxTransfer = 4095

// A PASIDDevice can do DMA with a PASID, too. Where devices cannot, Traits.Lacks
// has PASIDs.
type PASIDDevice interface {
	Device
	ReadPASID(ctx context.Context, pasid uint32, iova uint64, n int) error
	WritePASID(ctx context.Context, pasid uint32, iova uint64, n int) error
}

// An InterruptDevice can send a message as its interrupt, which a unit that remaps
// interrupts looks at. Where devices cannot, Traits.Lacks has InterruptFault.
type InterruptDevice interface {
	Device
	Interrupt(ctx context.Context, address uint64, data uint32) error
}

// A Feature is something that real units have and that not every rung can show.
type Feature string

const (
	PASIDs         Feature = "DMA with a PASID"
	SharedDomainID Feature = "translations tagged with the domain id" // so one id for two tables mixes them up
	PagingCache    Feature = "cached paging-structure entries"
	PASIDCache     Feature = "cached PASID entries"
	AbsentCached   Feature = "entries cached that are not present" // in caching mode
	LinesUnflushed Feature = "walks that miss what was not written back"
	CachedFaults   Feature = "fault records of accesses that a cached entry forbids"
	InterruptFault Feature = "fault records of interrupts"
	Superpages     Feature = "superpages"
)

// Traits say how a rung's unit differs from the specification's, or what it does
// not let one see.
type Traits struct {
	// Lacks says of each Feature that cannot be shown why not.
	Lacks map[Feature]string

	// Record is the reason that the unit records for a fault to which the
	// specification gives the reason r, or an explanation why it never records
	// that one. write says that the access is one. Nil is what the specification says.
	Record func(r vtd.Reason, write bool) (recorded vtd.Reason, whyNot string)

	// Unqualified are reasons as recorded that FPD does not keep out of the records
	// here though by the specification it does.
	Unqualified []vtd.Reason

	// AddressMask is the highest order of an IOTLB invalidation that drops no
	// more than was asked for; 0 is all.
	AddressMask int

	// SlowDMA says that a transfer takes 100 ms, not less than one: cases that
	// do many then do few.
	SlowDMA bool
}

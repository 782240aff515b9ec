package iommu

import "gommu/pagetable"

// A Unit is hardware that walks tables which this process writes, such as a
// *vtd.Unit.
type Unit interface {
	// Bind makes the table known to the unit, under a domain id of its own. It
	// may sleep.
	Bind(t *pagetable.Table) (Binding, error)
}

// A Binding is a table that a unit knows under a domain id. Its methods may be
// called at once from several goroutines.
type Binding interface {
	// DomainID is the tag of the unit's caches.
	DomainID() uint16
	// Attach gives the device with this requester id the table. It may sleep.
	Attach(source uint16) error
	// Detach takes it away. It may sleep. After success the device reaches
	// nothing, and nothing is cached for it.
	Detach(source uint16) error

	// Begin tells the unit to forget size bytes of this domain at iova, or all
	// of the domain if size is 0, and does not wait until it has. With leavesOnly
	// no table was unlinked and the unit may keep what it has cached of tables. It
	// fails with ErrBusy itself, if another command is being given at this moment or
	// there is no room for one, and with other errors if the unit has failed.
	//
	//gommu:nosleep
	Begin(iova, size uint64, leavesOnly bool) (Ticket, error)
	// Done says whether the unit has done what Begin asked for. If it says so
	// for a ticket, it does for all before it. An error says that the unit failed: nothing that
	// was asked for may be relied on until Recover.
	//
	//gommu:nosleep
	Done(t Ticket) (bool, error)
	// Publish tells the unit of a Map, where it has to be told (caching mode,
	// write buffers); otherwise it does nothing. It waits for the unit, spinning.
	//
	//gommu:nosleep
	Publish(iova, size uint64) error

	// Recover makes a unit that failed usable again and has it forget everything:
	// all tickets are done then. It may sleep.
	Recover() error
	// Close gives the domain id back. No device is attached any more. It may sleep.
	Close() error
}

// A Subject is a Binding that reports faults of its devices to tracers, and is told
// by which number these know the domain. It need not be one.
type Subject interface{ TraceAs(domain uint64) }

// A Ticket names a flush that was begun. Later ones are larger.
type Ticket uint64

package vtd

// A point names one step of the driver that hardware needs and that a program
// on hardware that forgives would not miss: an invalidation, a flush of cache
// lines or of the write buffer, or an order of stores. Built with the tag
// "mutate", tests leave out one at a time; otherwise keep is true and costs
// nothing.
type point int

const (
	flushNewFrame       point = iota // the zeros of a frame, before it is linked
	flushRootEntry                   // a root entry that now leads to a context table
	flushContextEntry                // a context entry that became present
	flushContextGone                 // one that is not present any more
	flushDirectoryEntry              // a PASID directory entry that became present
	flushDirectoryGone               // one that is not present any more
	flushPASIDEntry                  // a PASID table entry that became present
	flushPASIDGone                   // one that is not present any more

	orderContextEntry // P of a context entry after the rest
	orderPASIDEntry   // P of a PASID table entry after the rest
	orderRetire       // the rest of an entry goes after the invalidation
	orderFence        // context, PASID and translation caches in this order
	orderFreeTables   // frames go back to the pool after the invalidation

	publishContext // caching mode: the context entry that was not present
	publishPASID   // caching mode: the PASID table entry that was not present
	publishIOTLB   // caching mode: translations that were not there
	publishRange   // caching mode: entries of a table that became present
	writeBuffer    // write buffers: anything that became present

	retireContext // a context entry that is not present any more
	retirePASID   // a PASID table entry that is not present any more
	retireIOTLB   // the translations through it

	rootContext // everything cached, when the root table changes
	rootPASID
	rootIOTLB

	invalidateRange  // what Invalidate is asked for
	invalidateDomain // what InvalidateDomain is asked for
	forgetDevice     // what a device's TLB has of it

	waitDone // the wait for the unit's status write

	beginRange  // what Begin is asked for
	beginTables // the tables that were unlinked
	beginFence  // devices forget after the unit has
	beginDevice // what devices' TLBs have of it
	beginOrder  // waits hold back what follows
	beginWait   // Done's look at the unit's status write

	points int = iota
)

var pointNames = [points]string{
	"flush new frame", "flush root entry", "flush context entry", "flush context entry gone",
	"flush PASID directory entry", "flush PASID directory entry gone", "flush PASID entry", "flush PASID entry gone",
	"order of context entry", "order of PASID entry", "order of retiring", "fence between caches", "tables freed late",
	"publish context", "publish PASID", "publish IOTLB", "publish range", "write buffer",
	"retire context", "retire PASID", "retire IOTLB",
	"root: contexts", "root: PASIDs", "root: IOTLB",
	"invalidate range", "invalidate domain", "invalidate device TLB",
	"wait for status",
	"begin: range", "begin: tables", "begin: fence", "begin: device TLB", "begin: order of waits", "begin: status",
}

func (p point) String() string { return pointNames[p] }

// inOrder runs first, then second. A test may turn them round.
func inOrder(p point, first, second func()) {
	if !keep(p) {
		first, second = second, first
	}
	first()
	between(p)
	second()
}

package iommu

// A step is one of those without which something is reused too early, or reached too late, and a test
// that forgives would not miss it. Built with the tag "mutate", tests leave out one at a
// time; otherwise keep is true and costs nothing.
type step int

const (
	stepStrict  step = iota // the flush in a strict Unmap
	stepTables              // that it covers tables, too
	stepBurst               // the flush at the end of a ring's burst
	stepBegin               // to begin a flush of all of the domain
	stepDone                // to wait until it is done
	stepStamp               // that what was unmapped after it began waits for the next one
	stepGather              // the same where the worker takes over
	stepUnhold              // the flush before frames of tables that were held are released
	stepRegion              // the flush before a region's memory is unpinned
	stepPublish             // to tell units of a Map
	stepRecover             // that a unit which failed is not believed

	steps int = iota
)

var stepNames = [steps]string{
	"strict", "tables", "burst", "begin", "done", "stamp", "gather", "unhold", "region", "publish", "recover",
}

func (s step) String() string { return stepNames[s] }

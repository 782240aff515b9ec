package probe

// The functions below do nothing. They are not inlined, so that a tracer can stop in them.
//
// In all of them: domain is the domain's number in this process, 1 and up, in the order of creation; source the requester id of the
// domain's device, or Several; sizes are bytes; ns is how long the call took, in nanoseconds.

// Several is the source of what belongs to no single device.
const Several = 1<<64 - 1

// A Result says how a call ended.
const (
	Done    = 0 // it did what it was asked for
	Dry     = 1 // a pool had nothing ready, or somebody else was at it: try again
	Refused = 2 // the caller got it wrong, or the domain is closed
	Failed  = 3 // the unit, or the kernel, did not do its part
)

// CallMap is at the end of each map, of one mapping or of a list. direction is 1 to the device, 2 from it, 3 both; iova
// is 0 unless result is Done.
//
//go:noinline
//gommu:nosleep
func CallMap(domain, source, iova, size, direction, result, ns uint64) {}

// CallUnmap is at the end of each unmap. With the policy Strict, ns includes the flush.
//
//go:noinline
//gommu:nosleep
func CallUnmap(domain, source, iova, size, direction, result, ns uint64) {}

// CallFlush is where a flush is known to be complete: of count mappings that had size bytes, of which
// the flush was begun ns ago. result is Done or Failed.
//
//go:noinline
//gommu:nosleep
func CallFlush(domain, source, count, size, result, ns uint64) {}

// CallPoolGrow is where a pool has got count elements from its source, which took ns, and has total of them now.
// pool is the pool's number in this process, 1 and up.
//
//go:noinline
func CallPoolGrow(pool, count, total, ns uint64) {}

// CallPoolShrink is where a pool has given count elements back to its source.
//
//go:noinline
func CallPoolShrink(pool, count, total, ns uint64) {}

// CallPoolEmpty is where a pool had nothing, or too little, for a request of count elements of the class (0 ordinary, 1 atomic,
// 2 critical).
//
//go:noinline
//gommu:nosleep
func CallPoolEmpty(pool, count, class uint64) {}

// CallFault is where a fault was taken from a unit's records. access has bit 0 for a write, bit 1 for a
// PASID, bit 2 if more were lost.
//
//go:noinline
func CallFault(domain, source, iova, access, reason, pasid uint64) {}

// The functions of the bits of the sampling rate are never called, but kept.

//go:noinline
func CallSampleBit0() {}

//go:noinline
func CallSampleBit1() {}

//go:noinline
func CallSampleBit2() {}

//go:noinline
func CallSampleBit3() {}

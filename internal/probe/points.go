package probe

// The functions below do nothing. They are not inlined, so that a tracer can stop in them, and not split, so that what they
// begin with is up to entered.
//
// In all of them: domain is the domain's number in this process, 1 and up, in the order of creation; source the requester id of the
// domain's device, or Several; sizes are bytes; ns is how long the call took, in nanoseconds, as far as it was watched: looking at the
// clock, some 20 ns, is in it. A call of Map, Unmap, Flush and PoolEmpty is there if Sampled says so, the others always.

// Several is the source of what belongs to no single device.
const Several = 1<<64 - 1

// A Result says how a call ended.
const (
	Done    = 0 // it did what it was asked for
	Dry     = 1 // a pool had nothing ready, or somebody else was at it: try again
	Refused = 2 // the caller got it wrong, or the domain is closed
	Failed  = 3 // the unit, or the kernel, did not do its part
)

// CallMap is at the end of each call that makes a mapping, of one piece of memory or of a list, those that may sleep among
// them. direction is 1 to the device, 2 from it, 3 both; iova is 0 unless result is Done.
//
//go:noinline
//go:nosplit
//gommu:nosleep
func CallMap(domain, source, iova, size, direction, result, ns uint64) { entered() }

// CallUnmap is at the end of each unmap. With the policy Strict, ns includes the flush; of what one call has unmapped together each
// mapping has the same share of it. direction is 0 where there was no such mapping.
//
//go:noinline
//go:nosplit
//gommu:nosleep
func CallUnmap(domain, source, iova, size, direction, result, ns uint64) { entered() }

// CallFlush is where a flush, which was begun ns ago, is known to be complete: devices reach nothing any more of count mappings, whose
// windows are size bytes: whole pages, some more than lie in them. Each unmap of tables of our own is in one flush, counted if it was traced: that of a Strict
// domain's Unmap, of a ring's burst, or of all of the domain, which may be for tables alone (count 0). result is Done or
// Failed; what a flush of all of the domain failed for is counted with the next that is done.
//
//go:noinline
//go:nosplit
//gommu:nosleep
func CallFlush(domain, source, count, size, result, ns uint64) { entered() }

// CallPoolGrow is where a pool has got count elements from its source, which took ns, and has total of them now.
// pool is the pool's number in this process, 1 and up.
//
//go:noinline
//go:nosplit
func CallPoolGrow(pool, count, total, ns uint64) { entered() }

// CallPoolShrink is where a pool has given count elements back to its source.
//
//go:noinline
//go:nosplit
func CallPoolShrink(pool, count, total, ns uint64) { entered() }

// CallPoolEmpty is where a pool had nothing, or too little, for a request of count elements of the class (0 ordinary, 1 atomic,
// 2 critical).
//
//go:noinline
//go:nosplit
//gommu:nosleep
func CallPoolEmpty(pool, count, class uint64) { entered() }

// CallFault is where a fault was taken from a unit's records: domain is 0 if the device was attached to none, iova the 4 KiB page, reason
// that of the specification (7.1.3), access the bits below.
//
//go:noinline
//go:nosplit
func CallFault(domain, source, iova, access, reason, pasid uint64) { entered() }

// The bits of the access of a fault.
const (
	AccessWrite       = 1 << 0
	AccessPASID       = 1 << 1 // pasid counts
	AccessLost        = 1 << 2 // the unit had no room for those after it
	AccessAtomic      = 1 << 3
	AccessPageRequest = 1 << 4
	AccessTypeShift   = 5 // two bits: 0 untranslated, 1 translation request, 2 translated
	AccessExecute     = 1 << 7
	AccessPrivileged  = 1 << 8
)

// The functions of the bits of the sampling rate are never called, but kept.

//go:noinline
//go:nosplit
func CallSampleBit0() { entered() }

//go:noinline
//go:nosplit
func CallSampleBit1() { entered() }

//go:noinline
//go:nosplit
func CallSampleBit2() { entered() }

//go:noinline
//go:nosplit
func CallSampleBit3() { entered() }

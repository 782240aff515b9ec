// Package respool keeps resources ready for code that must not wait for them.
//
// A [Pool] holds elements that a [Source] made beforehand. Get takes one from
// the pool, always, and never asks the source; when nothing is ready it says
// [ErrEmpty] at once. A background worker asks the source, so that the pool does
// not run dry, and gives back what stays unused. GetBatch and PutBatch move many
// elements for less than as many calls cost, all or none. A [Cache] is a stock of a
// single owner, a poll loop for example, and costs it a few nanoseconds a call.
//
// # Ownership
//
// An element belongs to the pool until Get returns it, then to the caller until
// Put accepts it. A Put that returns an error has changed nothing: the caller
// still owns the element. The pool counts elements and does not know them apart:
// it refuses to take back more than it handed out ([ErrForeign]), but does not
// notice an element that is put twice while another one is out. What a cache holds is
// neither free, for nobody else can get it, nor in use; Stats shows it as Cached.
//
// A pool owns one goroutine, its worker, which only Close stops.
//
// A [Reservation] is a number of elements set apart, all at once or none: its slots are
// popped from the pool in one step and linked to each other, so to draw from it
// cannot fail. [ReserveAll] does the same over several pools. A reservation can be handed
// to another goroutine, split, and returned.
//
// # What may block
//
// Get, Put, the batches, all of a cache's methods, Reserve, ReserveAll and the methods of
// a Reservation never do: they park no goroutine, make no system call, allocate nothing
// and take no lock. GetWait, ReserveWait, ReserveAllWait and Wait do, until there is
// enough or their context ends. Stats does not block either. New calls the source and may
// take as long as it takes. Close waits, as its comment says. All methods of a Pool may be
// called at once from several goroutines, those of a Cache or a Reservation by one at a
// time.
//
// # How it differs from mempool and sync.Pool
//
// Linux's mempool asks the allocator first, without letting it reclaim memory; then it takes from its
// reserve; then, if the caller may sleep, it asks the allocator with reclaim, and waits. So every call
// pays for the allocator, on the caller's path, and the reserve is there for those who happen to
// come while memory is short: nobody is promised anything beyond one element at a time for
// callers that sleep. A Pool is the inverse. It is asked always, the source never is on the caller's path, and
// what a caller must not be refused he reserves: all of it, of several pools at once, beforehand. Four
// objections were raised when this was proposed to Linux in 2007, and each is a scenario of
// respool/scenario that runs under both disciplines:
//
//   - The worker may fall behind. Then Forecast says so while elements are left, and who has reserved is
//     not touched by it (outpaced).
//   - A common reserve deadlocks. It does, when what is needed is taken one by one; a reservation
//     is all or nothing and can be handed to who does the work (stampede, raid1, stack).
//   - One caller drains what another one needs to free memory. Classes keep marks, which the caller
//     names with each request (netack, abc).
//   - Just preallocate everything. That is Min = Max, the cost is told beforehand and the
//     source is never asked again (aperture, noalloc).
//
// sync.Pool keeps what may be thrown away: the garbage collector empties it, it never says how much it
// has, and its Get makes a new element where there is none. So it neither bounds nor promises anything, and
// it is faster than what does: its elements lie by processor, and are looked for elsewhere only where there
// are none.
// A Pool's elements are in reach of everybody at any time; who wants to own some by himself has a Cache.
//
// What a get and a put cost together, in ns on two cores of a virtual AMD EPYC, Linux 6.18, Go 1.26.8,
// 2026-11-20, in one run (docs/MEASURED.md has more, latencies among it):
//
//	goroutines                     1      2     16
//	Cache                        3.3    1.7    1.7
//	Pool                          16     20     21
//	sync.Pool                    9.5    4.8    4.6
//	buffered channel              31     35     35
//	slice under a mutex           24     28     86
//	mempool, allocator is free    36     61     50
//	mempool, reserve only         49     57    140
//	32 at a time, an element:
//	Cache                       0.43   0.45   0.22
//	Pool                         2.3    2.9    2.6
//	slice under a mutex         0.86    1.2    2.6
//
// # How it is built
//
// The elements lie by value in an array that is allocated once, so pointer-free elements give the
// garbage collector nothing to scan. Each has a slot there. A slot with a ready element is
// on the stack ready, those of a reservation are a chain of their own, those that the
// worker may fill are known to it only, and all others are blanks. Get pops a slot from
// ready, takes the element, and leaves the slot to the blanks; Put takes any blank and pushes it
// on ready. So the pool cannot exceed Max.
//
// Ready is a Treiber stack of slot numbers: each change is one compare-and-swap of one word,
// with which a Get and a Put are done. It fails only because another goroutine's change succeeded.
// Blanks lie in a stock for each processor, which costs no locked instruction, because
// whoever touches it is pinned to the processor for those few instructions, as in sync.Pool; what
// a stock has too much or too little it trades with a second Treiber stack, up to 32 at a time, still pinned until
// that swap is done. There
// are so many more slots than elements that no stock ever has to give to another one: a slot
// lies idle in a stock, an element never. Each slot takes the size of T and 8 bytes: in all
// up to five times Max of them, or Max and one for each processor (GOMAXPROCS) if that is more, which
// Options.MaxBytes does not count; so let T be a pointer or an index if an element is large. Processors
// added after New have no stock and go to the second stack.
//
// # Why it is lock-free
//
// Nobody ever waits for the second half of somebody else's operation. A goroutine that is
// preempted between its pop and its return, or between taking a blank and its push, keeps that
// one slot, or that batch's, to itself and delays no one: there is a blank for every element that
// is out, besides all those in stocks. A single call may have to retry as often as others succeed.
// A batch moves its slots as one chain with one swap, so the same holds. See stack for the ABA
// argument, and TestSuspendedCallerDelaysNobody. It holds where the processor can swap 64 bits:
// everywhere but on MIPS of 32 bits and on ARM before version 7, for which Go's sync/atomic
// takes a lock.
//
// A swap that fails is tried again after a pause of 0.3 µs, longer after each failure
// and at most 2.5 µs. The pause counts and waits for nobody. It leaves the cache lines with
// one processor for many calls in a row, so that several goroutines together get
// about as much done as one alone; without it two got a fifth of that done. There are no shards
// of elements: one stack knows exactly how many are free, and an answer of ErrEmpty has a moment
// during the call at which no element was ready, or fewer than the batch asked for. An
// element that a Get or a Put has in its hands at that moment is not ready. Who
// wants to scale with processors takes a cache for each.
//
// The head's tag counts pops and each link holds its depth, hence counting costs the hot path
// nothing: what is out is the elements that exist less the depth. For the same reason Put
// refuses an element more than are out.
//
// # Classes
//
// A request says by As how much it may take. The classes share one stack and differ in how many
// elements they must leave there, which is one comparison of the depth that a pop reads anyway:
// ordinary requests cannot drain what atomic ones need, nor these what critical ones need.
//
// # Caches
//
// A cache is an array that only its owner touches. When it is empty or full the owner
// moves a batch from or to the pool and is left with half of the cache full, so the next
// trip is at least half the size away whichever way the load goes. To fill or empty
// it would let a load that swings by one element make a trip at each call.
//
// The pool's Close cannot reach into a cache. A call of a cache after Close was called
// first gives back all that the cache holds; a cache whose owner makes no call keeps it,
// and Close waits for that as for elements in use, and reports it as leaked in the end.
//
// # The worker
//
// Because Get wakes nobody, the worker looks by itself: every MinInterval while
// the level is short, half as often after each look that found no Get, every
// MaxInterval without load, and every RestInterval once nobody has got anything for a second, somebody
// waiting or fewer than High free excepted. With the defaults that is at most 2000 looks a second
// under load, 100 without and 10 at rest. So a pool at rest is noticed to be falling after at
// most 100 ms, one in use after 10 ms: what is taken in that time Low has to cover, or whatever more is free. A look takes
// 0.2 µs; what costs is the timer that wakes a sleeping process, as a time.Ticker would.
//
// From what more is out at each look the worker estimates the outflow: means over 10 ms, 100 ms and 1 s,
// where gets and puts that balance are none, and the largest burst beyond the mean between two looks of the last
// seconds. From New on it measures what the source takes for an element, in the mean and at worst, for
// a source that cuts elements from larger pieces is slow once for many. It grows the pool when the number
// free was below Low since the last look, or would be, at the present rate or by such a burst, before the next look and
// what the source then takes for a step are over; and at once when more leaves than the source can give.
// So while the source keeps up, the level does not fall below Low, if High leaves room for what goes out
// in that time. Once it grows, it does so until High are free. Where gets found the pool empty
// although that many are free again by now, bursts are larger than High, and it adds one Step, up to Max.
//
// It shrinks the pool when more than High stayed free, at every moment, for all of IdleAfter, and nothing was made for MinAge:
// by a quarter of what was too much and at least by Step, then watches for another IdleAfter.
// The lowest number free decides in both directions, so a load that goes up and
// down within IdleAfter is not answered by freeing what it will need again, and no load whatever makes an element
// live for less than MinAge. In the end High are free, or Min exist, whichever is more: that bounds what an idle pool holds, and
// Stats shows it as Idle.
//
// When the source fails, the worker tries again after 10 ms, then after twice
// that, up to MaxBackoff, and is back to normal after the first success. Stats and Options.OnSourceError tell.
//
// Forecast gives the estimates, and when the pool would be dry by them. It warns ahead of a load that
// the source cannot follow, as soon as a mean shows it; what is taken at once nobody can foretell.
//
// What a pool may hold is bounded when it is made: Max elements have to fit into Options.MaxBytes
// and into MaxShare of the machine's memory. The share is of one pool; several pools take theirs each.
//
// # Waiting
//
// Those who may sleep wait in a line, one for each pool, first come, first served. Only
// the first looks at the pool, and takes all that it wants at once or nothing, so
// nobody who waits holds what others wait for. Put wakes nobody: the worker, which looks
// every MinInterval while somebody waits, tells the first after each look and each element
// it adds, and the first looks every MaxInterval by itself in case the source keeps the worker. As
// every look is at the pool as it is, a wake-up that nobody sent cannot be lost.
//
// A call that wants several pools waits in all their lines, which it enters in the order in which
// the pools were made. So there is always one call that is the first in all of its
// lines, and those who wait never wait for each other in a circle. What they wait for comes
// from those who do not wait: take all that you need in one call, and draw from it.
//
// Each class has a line of its own, so nobody waits for those whose mark keeps them from what he may
// take. That Get and Reserve, which do not wait, take what the first is waiting for is bounded: see
// ReserveWait. It bars them by a flag in the head of ready, which they look at
// anyway.
//
// # Debug builds
//
// With the build tag debug a pool knows who has which element. Then Get, Put and the rest of the
// hot path lock, allocate and walk the stack: a call takes microseconds, and nothing that is said
// here of blocking and of progress holds. Without the tag nothing of it is left in the code.
//
//   - A Put of an element that is not out is refused, [ErrDoublePut] with the stacks of both puts
//     or [ErrForeign] with that of the one; nothing has changed then. Caches refuse at once too.
//   - An element that is out longer than Options.HoldLimit is reported while it is, once, with the
//     stack of its Get. What lies in a reservation or a cache is not watched.
//   - A Close that leaves elements behind says where they were got, equal places together.
//   - Where the source is a [Poisoner], as those of package source are, an element that is
//     written to between its Put and its next Get is reported with the stacks of the Put and of
//     the Get before. It leaves the pool with the contents that the source promises, and a
//     refused Put leaves them alone.
//   - Who holds elements of one pool, or a reservation, and waits for another pool, or for the same one, makes
//     an edge between them. An edge that closes a circle is reported, once, with the stacks of all edges,
//     even if nobody has ever been stuck. To take everything in one call makes no edge between what it takes.
//   - A call that waits panics in a section that must not sleep: see [BeginNoSleep].
//
// A [Report] goes to Options.OnReport; where that is nil it is part of Close's error ([ErrReported]).
//
// Elements are told apart by these rules. Pointers, channels, maps and slices are known by their
// address, a slice by that of its first element; the pool does not keep them alive, so a new one at the
// address of one that was lost and collected passes for it. Other comparable types are known by their value,
// if no floating-point number or interface is in it: change none of it while it is out. Other structs and
// arrays are known by the first pointer, channel, map, slice or interface in them. What an interface holds goes by
// the same rules. Elements without any of these, and nil ones, are only counted, as without the tag. Of equal elements the pool
// assumes that each goroutine puts back its own.
//
// An element counts as its getter's until Put, also where another goroutine has it now; a
// reservation as that of who added to it last. So circles can be missed, or reported where none can
// be, when elements are handed over. A circle through something other than a pool, a mutex or a channel, is not seen.
package respool

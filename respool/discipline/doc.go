// Package discipline holds four ways to have elements ready, behind one interface, so that
// they can be compared on the same load.
//
//   - [PoolFirst], the product: a [respool.Pool]. A get takes from the pool, always; a
//     worker asks the source.
//   - [AllocatorFirst], Linux's mempool: a get asks the allocator first and falls back to a
//     reserve.
//   - [PerCPU]: stocks that only a background goroutine fills, one for each processor in a
//     kernel, one for each handle here.
//   - [Static]: everything is allocated beforehand, and the source is not asked again.
//
// # Ownership
//
// An element belongs to the discipline until a get returns it, then to the caller until Put
// accepts it. A Put that returns an error has changed nothing. Elements are counted and not known
// apart: more than were got are refused, one that is put twice while another is out is not noticed.
//
// # What may block
//
// Who may not sleep calls Get, who may calls GetWait. Neither Get nor Put waits for an
// element or for reclaim, but what they do is the discipline's: AllocatorFirst calls TryAlloc
// in Get and Free in Put, and takes as long as these. All but PoolFirst take locks, held
// for a few instructions, and may wake goroutines; so none but PoolFirst meets the contract of a
// function marked //gommu:nosleep. Constructors call the source and take as long as it takes.
// Close waits, as its comment says.
//
// All methods may be called at once from several goroutines.
//
// # Errors
//
// Errors are told apart by the sentinels of respool: ErrEmpty, ErrClosed, ErrForeign, ErrLeaked,
// ErrSourceBusy, ErrFree, ErrNoMemory and ErrBadOptions, in an *[OpError], or for PoolFirst
// in an *respool.OpError.
package discipline

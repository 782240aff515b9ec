//go:build !debug

package respool

// In builds without the tag debug all of this is empty, and nothing of it is left in the hot
// path. The files whose names end in _debug.go say what each does.

// debugging says whether this is a debug build.
const debugging = false

func mightSleep() {}

func mayWait(*line) {}

// pauseAt is where a test of a debug build may hold a goroutine between two atomic steps.
//
//gommu:nosleep
func pauseAt(string) {}

// pauseIf is pauseAt for a call of a stack that refuses something.
//
//gommu:nosleep
func pauseIf(uint64, string) {}

type lineDebug struct{}

type ledger[T any] struct{}

func (*ledger[T]) init(*Pool[T])                            {}
func (*ledger[T]) got(T, Class)                             {}
func (*ledger[T]) gotAll([]T, Class)                        {}
func (*ledger[T]) put(e T, put func(T) error) error         { return put(e) }
func (*ledger[T]) putAll(es []T, put func([]T) error) error { return put(es) }
func (*ledger[T]) putCached(c *Cache[T], e T) error         { return c.put(e) }
func (*ledger[T]) putAllCached(c *Cache[T], es []T) error   { return c.putBatch(es) }
func (*ledger[T]) leaves(T)                                 {}
func (*ledger[T]) closed(int)                               {}
func (*ledger[T]) unheard() error                           { return nil }

//gommu:nosleep
func (*ledger[T]) setAside(*Reservation[T]) {}

//gommu:nosleep
func (*ledger[T]) stocks(*Cache[T]) {}

// NoSleep is a section of a goroutine that must not sleep. See BeginNoSleep.
type NoSleep struct{}

// BeginNoSleep declares that the calling goroutine must not sleep until it calls End, as
// one that holds a spinlock or polls a device. Sections may be nested, and end in any order.
//
// In debug builds the calls of this package that wait (New, Close, GetWait, ReserveWait,
// ReserveAllWait and Wait) panic inside a section, with a Report of kind SleepInside that has
// the stack of the section's begin and that of the call. Otherwise a section costs nothing and means nothing.
//
//gommu:nosleep
func BeginNoSleep() NoSleep { return NoSleep{} }

// End ends the section. In debug builds it panics, with a Report of kind WrongEnd, where the section has
// ended already and where another goroutine began it: that one's section goes on.
//
//gommu:nosleep
func (NoSleep) End() {}

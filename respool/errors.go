package respool

import (
	"errors"
	"strconv"
)

var (
	// ErrEmpty is what Get returns from a pool that has nothing ready, or too little for a batch
	// or a reservation. The worker sees
	// it at its next look: come back later, or give the pool a higher Low or Max.
	ErrEmpty = errors.New("pool is empty")

	// ErrBatch is what GetBatch returns for more elements than the pool can ever have (Options.Max).
	ErrBatch = errors.New("batch is larger than the pool can be: raise Options.Max or ask for less")

	// ErrClosed is what Get returns once Close was called, and Put once it is over.
	ErrClosed = errors.New("pool is closed")

	// ErrReserve is the answer to a reservation of more elements than the pool can ever have.
	ErrReserve = errors.New("more elements than the pool can ever have")

	// ErrSpent is what Get and Split of a Reservation return that has too few left.
	ErrSpent = errors.New("reservation has too few elements left")

	// ErrCacheClosed is what Get and Put of a Cache return after its Close.
	ErrCacheClosed = errors.New("cache is closed")

	// ErrForeign is what Put returns when nothing that it could take back is out, and Close when
	// more was put than was got.
	ErrForeign = errors.New("more elements put than were got")

	// ErrDoublePut is what Put returns, in debug builds and beside ErrForeign, for an element
	// that is in the pool already. Others notice it only if no other element is out, as ErrForeign.
	ErrDoublePut = errors.New("element was put already")

	// ErrReported is what Close returns, in debug builds, when there were reports and
	// Options.OnReport is not set: the error has their text.
	ErrReported = errors.New("the debug build reports")

	// ErrNoMemory is what New returns when the source cannot give what Min and Low
	// ask for. The source's error is wrapped beside it.
	ErrNoMemory = errors.New("source cannot fill the pool")

	// ErrBadOptions is what New returns for options that contradict each other.
	ErrBadOptions = errors.New("bad options")

	// ErrLimit is what New returns, besides ErrBadOptions, for a pool that could hold more memory than
	// Options.MaxBytes or MaxShare allow.
	ErrLimit = errors.New("above the limit of memory")

	// ErrLeaked is what Close returns when elements were not put back.
	ErrLeaked = errors.New("elements are still in use")

	// ErrSourceBusy is what Close returns when its context ended while the worker was
	// inside a call of the source or of a hook of Options.
	ErrSourceBusy = errors.New("source or hook has not returned")

	// ErrFree is what New and Close return when the source failed to free elements,
	// which are lost. The first of the source's errors is wrapped beside it.
	ErrFree = errors.New("source failed to free elements")
)

// An OpError is the error of every function and method of this package.
type OpError struct {
	Op       string // "new", "get", "put", "reserve", "split", "return", "wait" or "close"
	Pool     string // Options.Name, may be empty
	Out      int    // elements still in use, in caches or reserved, where Err is ErrLeaked
	Reserved int    // elements of Out in reservations
	Err      error  // an error of this package, the source's error wrapped in it
}

func (e *OpError) Error() string {
	s := "respool: " + e.Op
	if e.Pool != "" {
		s += " " + strconv.Quote(e.Pool)
	}
	return s + ": " + e.Err.Error()
}

func (e *OpError) Unwrap() error { return e.Err }

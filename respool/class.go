package respool

import "context"

// A Class says how much of a pool a request may take. The caller names it with each
// request, through As; the pool assigns none. The classes share one pool of elements and
// differ in how many they must leave free.
type Class uint8

const (
	// Ordinary requests leave at least Options.OrdinaryMark elements free. The methods of Pool
	// make such requests.
	Ordinary Class = iota
	// Atomic requests, of callers that cannot come back later, leave Options.AtomicMark.
	Atomic
	// Critical requests, which others wait for to get memory back, may take the last element.
	Critical

	classes = 3
)

func (c Class) String() string {
	if c < classes {
		return [...]string{"ordinary", "atomic", "critical"}[c]
	}
	return "unknown"
}

// An Access is a pool as requests of one class see it. It is a small value that costs
// nothing to make.
type Access[T any] struct {
	p *Pool[T]
	c Class
}

// As is the pool for requests of class c. A class that does not exist is Ordinary.
//
//gommu:nosleep
func (p *Pool[T]) As(c Class) Access[T] {
	if c >= classes {
		c = Ordinary
	}
	return Access[T]{p, c}
}

// Get is Pool.Get for the class. It never sleeps.
//
//gommu:nosleep
func (a Access[T]) Get() (T, error) {
	e, err := a.p.get(a.p.keep[a.c], barred(a.c))
	if debugging && err == nil {
		a.p.debug.got(e, a.c)
	}
	return e, err
}

// GetBatch is Pool.GetBatch for the class. It never sleeps.
//
//gommu:nosleep
func (a Access[T]) GetBatch(dst []T) error {
	err := a.p.getBatch(dst, a.c)
	if debugging && err == nil {
		a.p.debug.gotAll(dst, a.c)
	}
	return err
}

// NewCache is Pool.NewCache for the class: the cache takes from the pool what requests of
// the class may. Who calls its Get may be of any class: what is in a cache is the owner's.
func (a Access[T]) NewCache(size int) *Cache[T] { return a.p.newCache(size, a.c) }

// Reserve is Pool.Reserve for the class, of which the Reservation's Add is then too.
// It never sleeps.
//
//gommu:nosleep
func (a Access[T]) Reserve(n int) (*Reservation[T], error) {
	//gommu:trust inlined, as Pool.Reserve is: the caller's stack has it
	return new(Reservation[T]).through(a, n)
}

// through gives r, which is zero, n elements of a.
//
//gommu:nosleep
//go:noinline
func (r *Reservation[T]) through(a Access[T], n int) (*Reservation[T], error) {
	r.class = a.c
	return r.from(a.p, n)
}

// ReserveWait is Pool.ReserveWait for the class. Nobody waits for those of a class below his.
func (a Access[T]) ReserveWait(ctx context.Context, n int) (*Reservation[T], error) {
	return a.p.reserveWait(ctx, n, a.c)
}

// GetWait is Pool.GetWait for the class. Nobody waits for those of a class below his.
func (a Access[T]) GetWait(ctx context.Context) (T, error) { return a.p.getWait(ctx, a.c) }

package respool

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// A Part is what a ReserveAll is to take of one pool. Need makes it.
type Part struct {
	r reservation
	n int
}

// A reservation is a *Reservation[T], whatever T is.
type reservation interface {
	//gommu:nosleep
	queue() *line
	//gommu:nosleep
	of() Class
	//gommu:nosleep
	keep() int
	//gommu:nosleep
	take(n int, refuse uint64) error
	//gommu:nosleep
	takeOver(from reservation, n int)
	//gommu:nosleep
	giveBack(n int) error
	//gommu:nosleep
	refused(err error, n int)
}

// Need is the part of a ReserveAll that adds n elements to r.
//
//gommu:nosleep
func (r *Reservation[T]) Need(n int) Part { return Part{r, n} }

// takeOver moves n elements of from, a reservation of the same pool, to r.
//
//gommu:nosleep
func (r *Reservation[T]) takeOver(from reservation, n int) {
	var unused notes
	f := from.(*Reservation[T])
	first := f.first
	f.first, f.n = f.after(n, &unused), f.n-n
	r.link(first, n)
	r.p.debug.setAside(f)
	r.p.debug.setAside(r)
}

//gommu:nosleep
func (r *Reservation[T]) queue() *line { return &r.p.line }

//gommu:nosleep
func (r *Reservation[T]) of() Class { return r.class }

// partsInline is up to how many parts ReserveAll makes no heap allocation.
const partsInline = 8

var errNoPart = &OpError{Op: "reserve", Err: fmt.Errorf("%w: a part has no pool: make it with Need", ErrReserve)}

// ReserveAll adds to several reservations, of any pools, what each part says, or changes
// none of them: then it returns the error of the pool that refused, as Reserve
// does. It never sleeps and, up to 8 parts, allocates nothing.
//
// The order of the parts does not matter: pools are always taken in the order in which they
// were made, so of several calls that want the same pools one succeeds. A call looks at
// all pools before it takes from the first. Only if one runs low in just that moment does it take
// and give back; then others may be answered ErrEmpty in between.
//
// A Close that ends in between leaves what was taken in the reservation, since nobody
// can take it back: the error then is ErrClosed.
//
//gommu:nosleep
func ReserveAll(parts ...Part) error {
	var inline [partsInline]Part
	//gommu:trust documented: up to partsInline parts it does not grow
	order, err := inOrder(append(inline[:0], parts...))
	if err != nil {
		return err
	}
	return takeAll(order, barred, true)
}

// ReserveAllWait is ReserveAll for those who may sleep: it waits, as ReserveWait does,
// until all parts can be had at once, or ctx ends. It holds no element of one pool
// while it waits for another.
//
// It waits in the lines of all its pools and enters them in the order in which they were
// made, as one would lock locks, so calls that name them in different orders cannot
// wait for each other. Those behind it in one of the lines wait as long as it does.
func ReserveAllWait(ctx context.Context, parts ...Part) error {
	return waitAll(ctx, append([]Part(nil), parts...))
}

func waitAll(ctx context.Context, parts []Part) error {
	mightSleep()
	order, err := inOrder(parts)
	if err != nil || len(order) == 0 {
		return err
	}
	quiet := true
	var places []place
	for at, k, n := 0, 0, 0; at < len(order); at += k {
		k, n = ofOnePool(order[at:])
		l := place{order[at].r.queue(), order[at].r.of(), n}
		places = append(places, l)
		mayWait(l.line)
		quiet = quiet && l.above(l.class) == 0
	}
	if err := ctx.Err(); err != nil {
		return tooLate(places[0].line, err)
	}
	if quiet {
		if err := takeAll(order, barred, false); !errors.Is(err, ErrEmpty) {
			return err
		}
	}
	return inLine(ctx, places, func(bool) error { return takeAll(order, overtaken, false) })
}

// inOrder sorts parts by the age of their pools, drops those that want nothing, and refuses
// what can never be had.
//
//gommu:nosleep
func inOrder(parts []Part) ([]Part, error) {
	sortByAge(parts)
	if err := possible(parts); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(parts, func(p Part) bool { return p.n == 0 }), nil
}

// sortByAge puts parts without a pool first. Of those of one pool the first is of the lowest class:
// it must leave the most, and regards all who wait.
//
//gommu:nosleep
func sortByAge(parts []Part) {
	age := func(p Part) uint64 {
		if p.r == nil {
			return 0
		}
		return p.r.queue().id
	}
	before := func(a, b Part) bool {
		return age(a) < age(b) || a.r != nil && age(a) == age(b) && a.r.of() < b.r.of()
	}
	for i := range parts {
		for k := i; k > 0 && before(parts[k], parts[k-1]); k-- {
			parts[k], parts[k-1] = parts[k-1], parts[k]
		}
	}
}

// possible refuses what can never be had.
//
//gommu:nosleep
func possible(order []Part) error {
	sum, keep := 0, 0
	for i, p := range order {
		if p.r == nil {
			return errNoPart
		}
		l := p.r.queue()
		if i == 0 || l != order[i-1].r.queue() {
			sum, keep = 0, 0
		}
		if p.n > 0 {
			keep = max(keep, p.r.keep())
			sum += p.n
		}
		if p.n < 0 || p.n > l.max || sum > 0 && sum > l.max-keep {
			return l.errs.never
		}
	}
	return nil
}

// takeAll takes all parts or, if one of the pools refuses, none. What several parts want of one
// pool the first of them takes in one step and hands on: in several steps, of two calls each could
// take what the other lacks. Where they are of several classes, it is a request of the lowest.
//
//gommu:nosleep
func takeAll(order []Part, refuse func(Class) uint64, count bool) error {
	for at, k, n := 0, 0, 0; at < len(order); at += k {
		k, n = ofOnePool(order[at:])
		l := order[at].r.queue()
		if h := l.ready.head.Load(); h&refuse(order[at].r.of()) != 0 || l.ready.depth() < n+order[at].r.keep() {
			return refusal(order[at], l.refusal(h), count)
		}
	}
	for at, k, n := 0, 0, 0; at < len(order); at += k {
		k, n = ofOnePool(order[at:])
		if err := order[at].r.take(n, refuse(order[at].r.of())); err != nil {
			return undo(order[:at], refusal(order[at], err, count))
		}
		for _, p := range order[at+1 : at+k] {
			p.r.takeOver(order[at].r, p.n)
		}
	}
	return nil
}

// ofOnePool is how many parts at the beginning of order are of the same pool, and what they want
// together.
//
//gommu:nosleep
func ofOnePool(order []Part) (k, n int) {
	for ; k < len(order) && order[k].r.queue() == order[0].r.queue(); k++ {
		n += order[k].n
	}
	return k, n
}

// refusal is err, which p's pool answered; it counts it as Add does, if count says so.
//
//gommu:nosleep
func refusal(p Part, err error, count bool) error {
	if count {
		p.r.refused(err, p.n)
	}
	return err
}

// undo gives back what was taken for parts and returns why: err, unless a pool was closed meanwhile.
//
//gommu:nosleep
func undo(parts []Part, err error) error {
	for k := len(parts) - 1; k >= 0; k-- {
		if lost := parts[k].r.giveBack(parts[k].n); lost != nil {
			err = lost
		}
	}
	return err
}

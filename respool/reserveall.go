package respool

import (
	"context"
	"errors"
)

// A Part is what a ReserveAll is to take of one pool. Need makes it.
type Part struct {
	r reservation
	n int
}

// A reservation is a *Reservation[T], whatever T is.
type reservation interface {
	queue() *line
	keep() int
	take(n int, refuse uint64) error
	giveBack(n int) error
	refused()
}

// Need is the part of a ReserveAll that adds n elements to r.
//
//gommu:nosleep
func (r *Reservation[T]) Need(n int) Part { return Part{r, n} }

func (r *Reservation[T]) queue() *line { return &r.p.line }
func (r *Reservation[T]) refused()     { r.p.empty.Add(1) }

// partsInline is up to how many parts ReserveAll makes no heap allocation.
const partsInline = 8

var errNoPart = &OpError{Op: "reserve", Err: ErrReserve}

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
	order := inOrder(append(inline[:0], parts...))
	if err := possible(order); err != nil {
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
	order := inOrder(parts)
	if err := possible(order); err != nil || len(order) == 0 {
		return err
	}
	quiet := true
	lines, wants := make([]*line, len(order)), make([]int, len(order))
	for i, p := range order {
		lines[i], wants[i] = p.r.queue(), p.n
		quiet = quiet && lines[i].waiting.Load() == 0
	}
	if err := ctx.Err(); err != nil {
		return tooLate(lines[0], err)
	}
	if quiet {
		if err := takeAll(order, barred, false); !errors.Is(err, ErrEmpty) {
			return err
		}
	}
	return inLine(ctx, lines, wants, func(bool) error { return takeAll(order, closing, false) })
}

// inOrder sorts parts by the age of their pools, those without a pool first.
//
//gommu:nosleep
func inOrder(parts []Part) []Part {
	age := func(p Part) uint64 {
		if p.r == nil {
			return 0
		}
		return p.r.queue().id
	}
	for i := range parts {
		for k := i; k > 0 && age(parts[k]) < age(parts[k-1]); k-- {
			parts[k], parts[k-1] = parts[k-1], parts[k]
		}
	}
	return parts
}

// possible refuses what can never be had.
//
//gommu:nosleep
func possible(order []Part) error {
	sum := 0
	for i, p := range order {
		if p.r == nil {
			return errNoPart
		}
		l := p.r.queue()
		if i == 0 || l != order[i-1].r.queue() {
			sum = 0
		}
		if p.n < 0 || p.n > l.max-p.r.keep()-sum {
			return l.errs.never
		}
		sum += p.n
	}
	return nil
}

// takeAll takes all parts or, if one of the pools refuses, none.
//
//gommu:nosleep
func takeAll(order []Part, refuse uint64, count bool) error {
	for _, p := range order {
		l := p.r.queue()
		if l.ready.depth() >= p.n+p.r.keep() || p.n == 0 {
			continue
		}
		err := l.refusal(l.ready.head.Load())
		if count && err == l.errs.empty {
			p.r.refused()
		}
		return err
	}
	for i, p := range order {
		err := p.r.take(p.n, refuse)
		if err == nil {
			continue
		}
		if count && err == p.r.queue().errs.empty {
			p.r.refused()
		}
		for k := i - 1; k >= 0; k-- {
			if lost := order[k].r.giveBack(order[k].n); lost != nil {
				err = lost
			}
		}
		return err
	}
	return nil
}

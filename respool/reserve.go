package respool

// A Reservation is a number of elements that a pool has set apart for its owner. They are
// out of everybody else's reach already, so to draw them cannot fail, whatever becomes of
// the pool in between: not when it is empty, not when its source fails, not while it is
// being closed.
//
// Only one goroutine at a time may use a Reservation. It may be handed to another one,
// through a channel or by whatever else orders memory, as a whole or, after Split, in
// part; the race detector reports who does without. Make one with Reserve; it must not be
// copied.
type Reservation[T any] struct {
	_     noCopy
	p     *Pool[T]
	first uint32 // the slots, popped from ready and still linked as they were there
	n     int
	class Class
}

// noCopy makes go vet report copies.
type noCopy struct{}

func (*noCopy) Lock()   {}
func (*noCopy) Unlock() {}

// Reserve sets n ready elements apart, or none: then it returns ErrEmpty, once Close was
// called ErrClosed, and ErrReserve if the pool can never have n elements. While elements
// are kept for a waiting call (see ReserveWait) the answer is ErrEmpty too.
// It never sleeps; its work grows with n. A Reservation that stays in the calling
// function costs no heap allocation; where it leaves it, keep one and use Add.
//
//gommu:nosleep
func (p *Pool[T]) Reserve(n int) (*Reservation[T], error) {
	//gommu:trust short enough to be inlined, so that the caller's stack has it
	return new(Reservation[T]).from(p, n)
}

// from gives r, which is zero, n elements of p. It is not inlined, so that Reserve can be.
//
//gommu:nosleep
//go:noinline
func (r *Reservation[T]) from(p *Pool[T], n int) (*Reservation[T], error) {
	r.p = p
	if err := r.Add(n); err != nil {
		return nil, err
	}
	return r, nil
}

// Add sets n more elements apart, or none. Otherwise it is like Reserve.
//
//gommu:nosleep
func (r *Reservation[T]) Add(n int) error {
	l := &r.p.line
	if n < 0 || n > l.max-r.keep() {
		return l.errs.never
	}
	err := r.take(n, barred(r.class))
	r.refused(err, n)
	return err
}

// refused counts err, the answer to somebody who wanted n elements and does not wait.
//
//gommu:nosleep
func (r *Reservation[T]) refused(err error, n int) {
	l := &r.p.line
	switch err {
	case l.errs.kept:
		l.kept.Add(1)
	case l.errs.empty:
	default:
		return
	}
	r.p.empty.Add(1)
	showEmpty(l.id, n, r.class)
}

// Len is how many elements the reservation has.
//
//gommu:nosleep
func (r *Reservation[T]) Len() int { return r.n }

// Get draws an element. It fails, with ErrSpent, only when the reservation has none left.
// It never sleeps.
//
//gommu:nosleep
func (r *Reservation[T]) Get() (T, error) {
	var none T
	p := r.p
	if r.n == 0 {
		return none, p.errs.spent
	}
	i := r.first
	r.first = uint32(p.ready.links[i].Load() & indexMask)
	r.n--
	e := p.elems[i]
	p.elems[i] = none // keep nothing alive that e points to
	p.reserved.Add(-1)
	pauseAt("draw: not reserved any more")
	p.blanks.put(i)
	if debugging {
		p.debug.setAside(r)
		p.debug.got(e, r.class)
	}
	return e, nil
}

// Put gives an element back to the reservation, whichever way it was got: it can be drawn
// once more. It returns what Pool.Put does; to give it back to everybody, call that.
// It never sleeps.
//
//gommu:nosleep
func (r *Reservation[T]) Put(e T) error {
	if debugging {
		return r.p.debug.put(e, r.put)
	}
	return r.put(e)
}

//gommu:nosleep
func (r *Reservation[T]) put(e T) error {
	p := r.p
	if p.ready.head.Load()&sealed != 0 {
		return p.errs.putClosed
	}
	i := p.blanks.get()
	if i == 0 {
		return p.noBlank()
	}
	pauseAt("reservation put: slot taken")
	p.reserved.Add(1)
	pauseAt("reservation put: counted")
	if p.ready.overloaded(&p.bound) {
		p.reserved.Add(-1)
		p.blanks.put(i)
		return p.errs.foreign
	}
	p.elems[i] = e
	r.link(i, 1)
	p.debug.setAside(r)
	return nil
}

// Split moves n elements to a reservation of their own, or returns ErrSpent if there are
// fewer. It never sleeps. As with Reserve, a heap allocation is made only where the new
// one leaves the calling function.
//
//gommu:nosleep
func (r *Reservation[T]) Split(n int) (*Reservation[T], error) {
	//gommu:trust inlined, as Pool.Reserve is: the caller's stack has it
	return new(Reservation[T]).splitOff(r, n)
}

// splitOff is s, which is zero, with n elements of r. It is not inlined, so that Split
// can be.
//
//gommu:nosleep
//go:noinline
func (s *Reservation[T]) splitOff(r *Reservation[T], n int) (*Reservation[T], error) {
	if n < 0 || n > r.n {
		return nil, r.p.errs.split
	}
	var unused notes
	s.p, s.class, s.first, s.n = r.p, r.class, r.first, n
	r.first, r.n = r.after(n, &unused), r.n-n
	if debugging {
		r.p.debug.setAside(r)
		r.p.debug.setAside(s)
	}
	return s, nil
}

// Return gives what the reservation has back to the pool. The reservation is empty then
// and may be used again. Once Close of the pool is over it returns ErrClosed and the
// reservation keeps its elements: draw and dispose of them, or return them
// during another Close. It never sleeps.
//
//gommu:nosleep
func (r *Reservation[T]) Return() error { return r.giveBack(r.n) }

// giveBack returns the n elements that came last.
//
//gommu:nosleep
func (r *Reservation[T]) giveBack(n int) error {
	if n == 0 {
		return nil
	}
	var notes notes
	p, rest := r.p, r.after(n, &notes)
	p.reserved.Add(int64(-n)) // before the push, see bound
	pauseAt("return: not reserved any more")
	if p.ready.pushChain(r.first, n, sealed, nil, &notes) != done {
		p.reserved.Add(int64(n))
		return p.errs.returnClosed
	}
	r.first, r.n = rest, r.n-n
	p.debug.setAside(r)
	return nil
}

// take moves n slots from ready to r in one step, unless there are fewer or ready carries
// one of the flags in refuse.
//
//gommu:nosleep
func (r *Reservation[T]) take(n int, refuse uint64) error {
	if n == 0 {
		return nil
	}
	p := r.p
	first, left, head := p.ready.popChain(n, r.keep(), refuse)
	if first == 0 {
		return p.line.refusal(head)
	}
	pauseAt("reserve: popped")
	p.reserved.Add(int64(n))
	p.dipped(left)
	r.link(first, n)
	p.debug.setAside(r)
	return nil
}

// link puts the n slots from first on, linked in ready's links, before those of r.
//
//gommu:nosleep
func (r *Reservation[T]) link(first uint32, n int) {
	if r.n > 0 {
		links, last := r.p.ready.links, uint64(first)
		for range n - 1 {
			last = links[last].Load() & indexMask
		}
		links[last].Store(uint64(r.first))
	}
	r.first = first
	r.n += n
}

// after is the slot that follows the first n, of which it notes the first.
//
//gommu:nosleep
func (r *Reservation[T]) after(n int, notes *notes) uint32 {
	links, at := r.p.ready.links, uint64(r.first)
	for k := range n {
		if k < len(notes) {
			notes[k] = uint32(at)
		}
		at = links[at].Load() & indexMask
	}
	return uint32(at)
}

// keep is how many elements the reservation must leave free when it takes some.
//
//gommu:nosleep
func (r *Reservation[T]) keep() int { return r.p.keep[r.class] }

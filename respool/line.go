package respool

import (
	"container/list"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// A line is where those who may sleep wait for elements of one pool, first come, first
// served in each class; a class does not wait for those below it, which might lack what it may
// take. Only the first of each class looks at the pool. It does so when the worker rings, which
// is after each look that found elements and after each element it adds; and every
// MaxInterval by itself, for the worker may be inside the source. So no wake-up can be
// lost, and Put need not make one. Close tells all.
type line struct {
	id    uint64 // orders all pools of the process
	name  string
	ready *stack
	max   int
	every time.Duration // between two looks of the first
	errs  lineErrors

	mu    sync.Mutex
	spots [classes]list.List // of *spot
	rings list.List          // of who is in the line or will enter it, to be told of Close

	waiting [classes]atomic.Int64 // how many are in the line
	wanted  atomic.Int64          // elements that they want together, and those who are about to join
	wake    chan struct{}         // wakes the worker
	kept    atomic.Uint64         // of Pool.empty, answers of a pool that only kept its elements for who waits

	//lint:ignore U1000 debug builds use it
	debug lineDebug
}

// lineErrors are made beforehand.
type lineErrors struct{ empty, kept, closed, never error }

// A place is what somebody waits for in the line of one pool.
type place struct {
	*line
	class Class
	n     int
}

// A spot is one goroutine's place in a line.
type spot struct {
	turn chan struct{} // closed when it is the first
	ring chan struct{} // has a token when it is to look; one for all lines that the goroutine is in
}

var lastID atomic.Uint64

func (l *line) init(o Options, ready *stack) {
	l.id, l.name, l.ready, l.max = lastID.Add(1), o.Name, ready, o.Max
	l.every = o.MaxInterval
	l.wake = make(chan struct{}, 1)
	refuse := func(err error) error { return &OpError{Op: "reserve", Pool: o.Name, Err: err} }
	l.errs = lineErrors{
		empty:  refuse(ErrEmpty),
		kept:   refuse(ErrEmpty),
		closed: refuse(ErrClosed),
		never:  refuse(fmt.Errorf("%w: ask for 0 to %d, or raise Max", ErrReserve, o.Max)),
	}
}

// refusal is the error of a reservation that found too little, or head closing.
//
//gommu:nosleep
func (l *line) refusal(head uint64) error {
	switch {
	case head&closing != 0:
		return l.errs.closed
	case keeps(head):
		return l.errs.kept
	}
	return l.errs.empty
}

// all is how many are in the line.
func (l *line) all() int64 { return l.above(Ordinary) }

// above is how many are in the line whom a request of class c lets go first: of its class and
// of those above it.
//
//gommu:nosleep
func (l *line) above(c Class) (n int64) {
	for k := c; k < classes; k++ {
		n += l.waiting[k].Load()
	}
	return n
}

// keeps tells, of an answer of ErrEmpty, that the pool had elements, which it kept for who waits. That is
// no demand: the worker need not add to them.
//
//gommu:nosleep
func keeps(head uint64) bool { return head&held != 0 && head&indexMask != 0 }

// enter waits for the turn. It gives up, with an error, when ctx ends or one of places is closed.
func (l place) enter(ctx context.Context, ring chan struct{}, places []place) (*list.Element, error) {
	s := &spot{turn: make(chan struct{}), ring: ring}
	l.mu.Lock()
	at := l.spots[l.class].PushBack(s)
	if l.waiting[l.class].Add(1) == 1 {
		close(s.turn)
	}
	l.mu.Unlock()
	for {
		if err := closedOf(places); err != nil {
			l.leave(at)
			return nil, err
		}
		select {
		case <-s.turn:
			return at, nil
		case <-ctx.Done():
			l.leave(at)
			return nil, tooLate(l.line, ctx.Err())
		case <-ring: // meant for a line where it is the first already, or for a closed one
		}
	}
}

// closedOf is the error of the first of places whose pool is closing, if there is one.
func closedOf(places []place) error {
	for _, l := range places {
		if l.ready.head.Load()&closing != 0 {
			return l.errs.closed
		}
	}
	return nil
}

// leave makes room. If at is the first, the next one has its turn.
func (l place) leave(at *list.Element) {
	l.mu.Lock()
	defer l.mu.Unlock()
	spots := &l.spots[l.class]
	first := spots.Front() == at
	spots.Remove(at)
	l.waiting[l.class].Add(-1)
	if next := spots.Front(); first && next != nil {
		close(next.Value.(*spot).turn)
	}
}

// ring tells the first of each class to look.
func (l *line) ring() {
	if l.all() == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.spots {
		first := l.spots[c].Front()
		if first == nil {
			continue
		}
		select {
		case first.Value.(*spot).ring <- struct{}{}:
		default:
		}
	}
}

// close tells all who wait for the pool that it is closing.
func (l *line) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for at := l.rings.Front(); at != nil; at = at.Next() {
		select {
		case at.Value.(chan struct{}) <- struct{}{}:
		default:
		}
	}
}

// want notes that n more elements are waited for, by whom ring tells of Close, and lets the
// worker see to it. The waiting is over when unwant is called.
func (l *line) want(n int, ring chan struct{}) (unwant func()) {
	l.mu.Lock()
	at := l.rings.PushBack(ring)
	l.mu.Unlock()
	l.wanted.Add(int64(n))
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return func() {
		l.wanted.Add(int64(-n))
		l.mu.Lock()
		defer l.mu.Unlock()
		l.rings.Remove(at)
	}
}

// overtaken are the flags that the first of class c in the line regards: Close, and that somebody of
// a class above waits.
func overtaken(c Class) uint64 { return barred(c) &^ heldBy(c) }

// bar keeps Get, GetBatch, Reserve and caches of the class and of those below it from taking what
// the first in the line waits for, or lets them again.
func (l place) bar(on bool) {
	if on {
		l.ready.head.Or(heldBy(l.class))
	} else {
		l.ready.head.And(^heldBy(l.class))
	}
}

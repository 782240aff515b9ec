package respool

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ReserveWait is Reserve for those who may sleep: it waits until n elements are ready at
// once, or ctx ends. Those who wait are served first come, first served in their class, and hold
// nothing meanwhile. An n that the pool can never have is refused at once with ErrReserve,
// and all who wait get ErrClosed when Close is called.
//
// A large n is not starved. Smaller requests that wait stay behind it in the line. Against those
// that do not wait, the first in the line has the right to let elements gather:
// after 10 ms Get, GetBatch, Reserve and caches are answered ErrEmpty for 10 ms, then
// they are let again for 20 ms, and refused for 20 ms, and so on, twice as long each time. So
// if everybody puts back what they hold within some time, the first is served at the
// latest when a period is longer than that, and nobody who does not wait is refused for
// ever. Draws from reservations are never refused.
//
// Do not wait for more while you hold what others wait for: reserve everything at once,
// with ReserveAllWait where it is of several pools.
func (p *Pool[T]) ReserveWait(ctx context.Context, n int) (*Reservation[T], error) {
	return p.reserveWait(ctx, n, Ordinary)
}

func (p *Pool[T]) reserveWait(ctx context.Context, n int, c Class) (*Reservation[T], error) {
	r := &Reservation[T]{p: p, class: c}
	if err := waitAll(ctx, []Part{{r, n}}); err != nil {
		return nil, err
	}
	return r, nil
}

// GetWait is Get for those who may sleep: it waits for an element as ReserveWait does.
func (p *Pool[T]) GetWait(ctx context.Context) (T, error) { return p.getWait(ctx, Ordinary) }

func (p *Pool[T]) getWait(ctx context.Context, c Class) (T, error) {
	r := Reservation[T]{p: p, class: c}
	if err := waitAll(ctx, []Part{{&r, 1}}); err != nil {
		var none T
		return none, err
	}
	return r.Get()
}

// Wait returns when the pool has an element for ordinary requests, which somebody else may take before the
// caller does: GetWait is better where it can be used. It waits in the same line as
// GetWait and ReserveWait, and those who Wait are let go one by one, a look of the worker
// apart.
func (p *Pool[T]) Wait(ctx context.Context) error {
	mightSleep()
	l := &p.line
	keep := p.keep[Ordinary]
	if l.max == keep {
		return l.errs.never
	}
	mayWait(l)
	look := func() error {
		if h := p.ready.head.Load(); h&closing != 0 || p.ready.depth() <= keep {
			return l.refusal(h)
		}
		return nil
	}
	if l.all() == 0 {
		if err := look(); !errors.Is(err, ErrEmpty) {
			return err
		}
	}
	return inLine(ctx, []place{{l, Ordinary, 1}}, func(first bool) error {
		if first { // the one before has just been let go
			return l.errs.empty
		}
		return look()
	})
}

// Returned is a channel that has a token when the pool, having answered ErrEmpty to
// somebody, has something ready again. The worker sends it from its look, at most one
// until it is received. It is for one receiver, who then calls Get until that returns ErrEmpty: each
// ErrEmpty is followed by a token, so none is lost. The last token is that of Close. Let several goroutines use GetWait,
// which wakes as many as there are elements for.
func (p *Pool[T]) Returned() <-chan struct{} { return p.returned }

func (p *Pool[T]) tellReturned() {
	select {
	case p.returned <- struct{}{}:
	default:
	}
}

// firstPatience is how long the first in a line waits before it bars the others.
const firstPatience = 10 * time.Millisecond

// inLine waits for its turn in all of places, in this order, and then until try returns
// something other than ErrEmpty. The first look of try is the one before it waits.
func inLine(ctx context.Context, places []place, try func(first bool) error) error {
	ring := make(chan struct{}, 1)
	for _, l := range places {
		defer l.want(l.n, ring)()
	}
	for _, l := range places {
		at, err := l.enter(ctx, ring, places)
		if err != nil {
			return err
		}
		defer l.leave(at)
	}
	b := barrier{places: places, patience: firstPatience, until: time.Now().Add(firstPatience)}
	defer b.set(false)
	every := places[0].every
	for _, l := range places {
		every = min(every, l.every)
	}
	timer := time.NewTimer(every)
	defer timer.Stop()
	for first := true; ; first = false {
		if err := closedOf(places); err != nil {
			return err // try may find another pool empty before it comes to that one
		}
		if err := try(first); !errors.Is(err, ErrEmpty) {
			return err
		}
		b.step(time.Now())
		timer.Reset(min(every, time.Until(b.until)))
		select {
		case <-ctx.Done():
			return tooLate(places[0].line, ctx.Err())
		case <-ring:
		case <-timer.C:
		}
	}
}

func tooLate(l *line, err error) error {
	return &OpError{Op: "wait", Pool: l.name, Err: fmt.Errorf("not enough elements came back: %w", err)}
}

// A barrier keeps others from what the first in some lines waits for, by turns: it is open
// and shut for one patience each, then for twice that.
type barrier struct {
	places   []place
	shut     bool
	patience time.Duration
	until    time.Time
}

func (b *barrier) step(now time.Time) {
	if now.Before(b.until) {
		return
	}
	if b.shut {
		b.patience *= 2
	}
	b.set(!b.shut)
	b.until = now.Add(b.patience)
}

func (b *barrier) set(shut bool) {
	if b.shut == shut {
		return
	}
	b.shut = shut
	for _, l := range b.places {
		l.bar(shut)
	}
}

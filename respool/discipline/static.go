package discipline

import (
	"context"
	"fmt"

	"gommu/respool"
)

// Static has all its elements allocated beforehand. After NewStatic the source is not called
// until Close. Make one with NewStatic.
//
// Those who wait are served first come, first served: a put goes to the first of them.
type Static[T any] struct {
	src   respool.Source[T]
	gate  *gate
	stock chan T // holds all elements that are not out
}

// StaticOptions configure a Static. The zero value works.
type StaticOptions struct {
	// Name stands in errors.
	Name string

	// Elements is how many there are. Default 1024.
	Elements int
}

// NewStatic allocates the elements. It fails with respool.ErrNoMemory if src cannot give all.
func NewStatic[T any](ctx context.Context, src respool.Source[T], opts StaticOptions) (*Static[T], error) {
	s := &Static[T]{src: src, gate: newGate(label("static", opts.Name))}
	n, err := count("Elements", opts.Elements, 1024)
	if err == nil && src == nil {
		err = fmt.Errorf("%w: the source is nil: give it one", respool.ErrBadOptions)
	}
	var elems []T
	if err == nil {
		elems, err = fill(ctx, src, n)
	}
	if err != nil {
		return nil, &OpError{Op: "new", Discipline: s.gate.label, Err: err}
	}
	s.stock = make(chan T, n)
	for _, e := range elems {
		s.stock <- e
	}
	return s, nil
}

// Get takes an element, or returns respool.ErrEmpty.
func (s *Static[T]) Get() (T, error) {
	var none T
	if !s.gate.enter() {
		return none, s.gate.errs.getClosed
	}
	select {
	case e := <-s.stock:
		return s.hand(e)
	default:
		s.leave()
		return none, s.gate.errs.empty
	}
}

// GetWait takes an element, and waits for one if there is none.
func (s *Static[T]) GetWait(ctx context.Context) (T, error) {
	var none T
	if !s.gate.enter() {
		return none, s.gate.errs.getClosed
	}
	select {
	case e := <-s.stock:
		return s.hand(e)
	default:
	}
	select {
	case e := <-s.stock:
		return s.hand(e)
	case <-ctx.Done():
		s.leave()
		return none, s.gate.waitError(ctx, nil)
	case <-s.gate.life.Done():
		s.leave()
		return none, s.gate.errs.getClosed
	}
}

// Put gives an element back.
func (s *Static[T]) Put(e T) error {
	if err := s.gate.back(); err != nil {
		return err
	}
	s.settle(e)
	return nil
}

// settle is the second half of Put, and of a get that must not have e.
func (s *Static[T]) settle(e T) {
	s.stock <- e // has room for all that can be out
	s.leave()
}

// Held is all elements, until Close frees them.
func (s *Static[T]) Held() int { return len(s.stock) + s.gate.out() }

// Close is as Discipline says.
func (s *Static[T]) Close(ctx context.Context) error { return s.gate.close(ctx, s.drain) }

// hand ends a get that got e.
func (s *Static[T]) hand(e T) (T, error) {
	if s.gate.leaveWith() {
		return e, nil
	}
	var none T
	s.settle(e)
	return none, s.gate.errs.getClosed
}

// leave ends a call that hands out nothing.
func (s *Static[T]) leave() {
	if s.gate.leave() {
		s.drain()
	}
}

// drain frees what is not out.
func (s *Static[T]) drain() {
	for {
		select {
		case e := <-s.stock:
			s.gate.lost.add(s.src.Free(e))
		default:
			return
		}
	}
}

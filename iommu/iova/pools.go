package iova

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"gommu/respool"
)

// maxBackoff bounds the time between two tries of a source that fails. That range or numbers are
// used up costs little to find out, and may be over at any moment.
const maxBackoff = 50 * time.Millisecond

func (s *Space) poolOptions(k int, st Stock) respool.Options {
	return respool.Options{
		Name:       fmt.Sprintf("%s %#x", s.opts.Name, ClassSize(k)),
		Low:        st.Low,
		High:       st.High,
		Max:        st.Max,
		IdleAfter:  s.opts.IdleAfter,
		MinAge:     s.opts.MinAge,
		MaxBackoff: maxBackoff,
	}
}

// Close ends the space. From its start on nothing is handed out. It waits until all windows are back, those in caches and rings among
// them, or ctx ends, retires all blocks and ends the workers. Flush or close caches before.
//
// If windows are out when ctx ends Close returns ErrInUse, and Free refuses them from then on; Close may be called
// again to go on waiting. It returns ErrRetire if blocks could not be retired, which a further call tries again.
// Closing a closed space does nothing.
func (s *Space) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closing.Store(true)
	s.mu.Unlock()
	errs := []error{s.closePools(ctx), s.awaitOthers(ctx), s.retryAll()}
	if err := errors.Join(errs...); err != nil {
		return &OpError{Op: "close", Space: s.opts.Name, Err: err}
	}
	return nil
}

// closePools closes the pools that there are, all at once, as each may have to wait for windows.
func (s *Space) closePools(ctx context.Context) error {
	var all sync.WaitGroup
	var errs [Classes]error
	for k, p := range s.pools {
		if p == nil {
			continue
		}
		all.Go(func() {
			if err := p.Close(ctx); err != nil {
				errs[k] = fmt.Errorf("windows of %#x bytes: %w", ClassSize(k), inUse(err))
			}
		})
	}
	all.Wait()
	return errors.Join(errs[:]...)
}

// inUse adds ErrInUse to the error of a pool that has elements out.
func inUse(err error) error {
	if errors.Is(err, respool.ErrLeaked) {
		return fmt.Errorf("%w: %w", ErrInUse, err)
	}
	return err
}

// awaitOthers waits for windows of AllocWait and for rings.
func (s *Space) awaitOthers(ctx context.Context) error {
	for {
		s.mu.Lock()
		n := s.waits
		s.mu.Unlock()
		if n == 0 {
			return nil
		}
		select {
		case <-s.emptied:
		case <-ctx.Done():
			return fmt.Errorf("%w: %d windows of AllocWait and rings: %w", ErrInUse, n, ctx.Err())
		}
	}
}

// join counts a window of AllocWait or a ring, unless Close was called.
func (s *Space) join() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing.Load() {
		return s.errs.closed
	}
	s.waits++
	return nil
}

// part is the reverse of join.
func (s *Space) part() {
	s.mu.Lock()
	s.waits--
	s.mu.Unlock()
	select {
	case s.emptied <- struct{}{}:
	default:
	}
}

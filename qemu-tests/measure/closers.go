package measure

import (
	"context"
	"errors"
	"time"
)

// closers are what has to be given back, in the order in which it was taken.
type closers []func() error

func (c *closers) later(f func() error) { *c = append(*c, f) }

// laterWithin is later for what needs a context.
func (c *closers) laterWithin(f func(context.Context) error) {
	const limit = time.Minute // only what hangs takes so long
	c.later(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		return f(ctx)
	})
}

// close gives all back, newest first.
func (c *closers) close() error {
	var errs []error
	for i := len(*c) - 1; i >= 0; i-- {
		errs = append(errs, (*c)[i]())
	}
	return errors.Join(errs...)
}

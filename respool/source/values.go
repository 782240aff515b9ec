package source

import "context"

// Values is a source of Go values. Its functions may sleep and are called from several
// goroutines at once, as the methods are.
type Values[T any] struct {
	// New makes one value. Without it every value is the zero T.
	New func() (T, error)

	// Dispose disposes of a value that New made. Without it the garbage collector does.
	Dispose func(T) error

	// Spoil and Restore, if both are set, are the Poison and Check of respool.Poisoner, which
	// debug builds of the pool call.
	Spoil   func(T)
	Restore func(T) error
}

// Alloc returns what New returns, or the error of a context that has ended. New is not
// interrupted when ctx ends.
func (v Values[T]) Alloc(ctx context.Context) (T, error) {
	var zero T
	if err := ctx.Err(); err != nil || v.New == nil {
		return zero, err
	}
	return v.New()
}

// Free returns what Dispose returns.
func (v Values[T]) Free(e T) error {
	if v.Dispose == nil {
		return nil
	}
	return v.Dispose(e)
}

// Poison calls Spoil.
func (v Values[T]) Poison(e T) {
	if v.Spoil != nil && v.Restore != nil {
		v.Spoil(e)
	}
}

// Check returns what Restore returns.
func (v Values[T]) Check(e T) error {
	if v.Spoil == nil || v.Restore == nil {
		return nil
	}
	return v.Restore(e)
}

package respool

import "context"

// A Source makes and disposes of a pool's elements. Both methods may sleep: a
// pool calls them from New, from its worker and from Close, never from Get or
// Put. They may be called at once from several goroutines. A panic in one is not
// recovered: on the worker's goroutine it ends the process.
type Source[T any] interface {
	// Alloc makes one element. It returns early with ctx.Err() when ctx ends.
	Alloc(ctx context.Context) (T, error)

	// Free disposes of an element that Alloc made. An error means the element
	// could not be disposed of and is lost; the pool counts it.
	Free(T) error
}

// A Sizer is a Source that knows how many bytes each element holds. 0 says that it does not.
type Sizer interface{ ElemSize() int64 }

package iova

import (
	"context"
	"fmt"
)

// A Request says what AllocWait is to look for. Only Size has to be set.
type Request struct {
	Size  uint64 // bytes, rounded up to whole pages
	Align uint64 // the start is a multiple of it: a power of two, up to 4096 being all the same

	// Boundary, if it is not 0, is a power of two, not less than Size, no multiple of which lies inside the window.
	Boundary uint64

	// Below, if it is not 0, is above the last byte: 1<<32 for a device with 32 address lines.
	Below uint64

	// Fixed asks for the window that starts at At, which is a multiple of 4096.
	Fixed bool
	At    uint64
}

// AllocWait takes a window straight from the free range, of any size: the highest that fits. With Options.Random it
// is the highest below some random address. It does not wait for windows to be freed, but may sleep in Prepare. It
// returns ErrBadRequest, ErrNoSpace, ErrInUse where a fixed place is taken or not usable, ErrNumbers, ErrClosed, or the error
// of Prepare under ErrPrepare. Give the window back by FreeWait.
//
// The time grows with the logarithm of the number of free ranges, except for a request that an aligned block of its size
// rounded up to a power of two would not hold anywhere: then all ranges that are long enough are looked at.
func (s *Space) AllocWait(ctx context.Context, q Request) (Window, error) {
	fail := func(err error) (Window, error) {
		return Window{}, &OpError{Op: "alloc", Space: s.opts.Name, IOVA: q.At, Size: q.Size, Err: err}
	}
	w, at, err := q.want(s.guard >> pageBits)
	if err != nil {
		return fail(err)
	}
	if err := ctx.Err(); err != nil {
		return fail(err)
	}
	if err := s.join(); err != nil {
		return Window{}, err
	}
	n, err := s.single(ctx, w, at, kindWait)
	if err != nil {
		s.part()
		return fail(err)
	}
	return s.table.out(n, w.body<<pageBits), nil
}

// FreeWait ends a window that AllocWait returned, or Alloc. It may sleep in Retire. An error says that the
// window is not out, or not to be freed here, and that nothing has changed: if Retire fails the window is
// gone, its range is not, and Stats tell.
func (s *Space) FreeWait(w Window) error {
	if !s.table.end(w) {
		return s.notOut(w)
	}
	switch r := &s.table[w.Number]; {
	case r.start != w.Start:
		s.table.undo(w)
		return s.notOut(w)
	case r.where&kindMask == kindWait:
		s.endSingle(w.Number)
		s.part()
		return nil
	}
	s.table.undo(w)
	return s.Free(w)
}

// want is what the request looks for, and the page that it is to be at, with guard pages behind it.
func (q Request) want(guard uint64) (want, *uint64, error) {
	bad := func(format string, args ...any) (want, *uint64, error) {
		return want{}, nil, fmt.Errorf("%w: "+format, append([]any{ErrBadRequest}, args...)...)
	}
	body := q.Size>>pageBits + min(q.Size&(PageSize-1), 1)
	w := want{pages: body + guard, body: body, align: max(1, q.Align>>pageBits), boundary: q.Boundary >> pageBits, below: top}
	if q.Below != 0 {
		w.below = q.Below >> pageBits
	}
	switch {
	case q.Size == 0:
		return want{}, nil, ErrSize
	case q.Align&(q.Align-1) != 0:
		return bad("Align %#x is no power of two", q.Align)
	case q.Boundary&(q.Boundary-1) != 0:
		return bad("Boundary %#x is no power of two", q.Boundary)
	case q.Boundary != 0 && w.boundary < body:
		return bad("Boundary %#x is less than the size: such a window crosses one", q.Boundary)
	case !q.Fixed:
		return w, nil, nil
	}
	at := q.At >> pageBits
	switch last := at + body - 1; {
	case q.At&(PageSize-1) != 0:
		return bad("At is no multiple of 4096")
	case at+w.pages > w.below:
		return bad("At and Size end above Below (%#x)", q.Below)
	case alignDown(at, w.align) != at:
		return bad("At is no multiple of Align (%#x)", q.Align)
	case w.boundary != 0 && alignDown(at, w.boundary) != alignDown(last, w.boundary):
		return bad("At and Size cross a Boundary (%#x)", q.Boundary)
	}
	return w, &at, nil
}

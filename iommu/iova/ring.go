package iova

import (
	"context"
	"fmt"
)

// A Ring is a range of its own that one owner takes windows from in circular order: what is taken in a burst
// lies side by side, or wraps around once, so one or two invalidations of a range cover it, and of its tables none
// ever changes but the leaves.
//
// Windows may be freed in any order; room becomes free in the order in which it was taken, so one that stays out
// for long keeps all that was taken after it. The methods may be called by one goroutine at a time, or by those that are pinned
// to the same processor.
type Ring struct {
	s     *Space
	claim claim
	slots []slot // in circular order, of which used are in use from first on, before next
	used  int
	first int
	next  int

	at     uint64 // the page of the ring behind the newest window
	taken  uint64 // pages that are in use, or skipped before one that is
	closed bool
}

// A slot is one window of a ring.
type slot struct {
	number uint32
	busy   bool   // until it is freed
	pages  uint64 // that it takes, with its guard page and with those at the end of the ring that it skipped
}

const defaultRingWindows = 1024

// NewRing makes a ring of size bytes, rounded up to a multiple of 2 MiB, which may sleep in Prepare: all its blocks are
// prepared until it is closed. It has so many windows at a time at most, whose numbers it keeps as long; 0 is
// 1024, or as many as there are pages if that is less.
func (s *Space) NewRing(ctx context.Context, size uint64, windows int) (*Ring, error) {
	fail := func(err error) (*Ring, error) {
		return nil, &OpError{Op: "ring", Space: s.opts.Name, Size: size, Err: err}
	}
	if size == 0 || size > 1<<(pageBits+32) {
		return fail(ErrSize)
	}
	const chunk = 1 << chunkClass
	pages := alignUp((size+PageSize-1)>>pageBits, chunk)
	if windows <= 0 {
		windows = int(min(pages, defaultRingWindows))
	}
	if err := s.join(); err != nil {
		return nil, err
	}
	r := &Ring{s: s, slots: make([]slot, min(windows, int(pages)))}
	if err := r.open(ctx, pages); err != nil {
		s.part()
		return fail(err)
	}
	return r, nil
}

// open takes numbers and the range.
func (r *Ring) open(ctx context.Context, pages uint64) error {
	s := r.s
	if !r.takeNumbers() {
		return fmt.Errorf("%w: the ring wants %d", ErrNumbers, len(r.slots))
	}
	var err error
	if r.claim, err = s.claim(ctx, want{pages: pages, body: pages, align: 1 << chunkClass, below: top}, true, nil); err != nil {
		r.giveNumbers()
		return err
	}
	return nil
}

// takeNumbers gives each slot a number, or none.
func (r *Ring) takeNumbers() bool {
	s := r.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.numbers.left() < len(r.slots) {
		return false
	}
	for i := range r.slots {
		n, _ := s.numbers.take()
		r.slots[i].number = n
		s.table[n].where = kindRing | uint32(i)<<kindBits
	}
	return true
}

func (r *Ring) giveNumbers() {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	for _, sl := range r.slots {
		r.s.numbers.put(sl.number)
	}
}

// Start is the first IOVA of the ring, Size its bytes.
func (r *Ring) Start() uint64 { return r.claim.from << pageBits }

// Size is the bytes of the ring.
func (r *Ring) Size() uint64 { return r.claim.pages() << pageBits }

// Alloc takes the next window, of size bytes rounded up to whole pages, right behind the one before (and its guard
// page), or at the start of the ring where it would not fit before the end. If that place, or the window's slot, is in use
// still it returns ErrEmpty, for 0 and for more than the ring ErrSize, and ErrClosed after Close. It never sleeps.
//
//gommu:nosleep
func (r *Ring) Alloc(size uint64) (Window, error) {
	s, all := r.s, r.claim.pages()
	if r.closed {
		return Window{}, s.errs.ringClosed
	}
	body := size>>pageBits + min(size&(PageSize-1), 1)
	pages := body + s.guard>>pageBits
	if size == 0 || pages > all {
		return Window{}, r.badSize(size)
	}
	at, need := r.at, pages
	if at+pages > all {
		at, need = 0, pages+all-at
	}
	if r.used == 0 {
		need = pages // what was skipped keeps nobody waiting
	}
	switch {
	case r.used == len(r.slots):
		return Window{}, s.errs.ringNumbers
	case need > all-r.taken:
		return Window{}, s.errs.ringFull
	}
	sl := &r.slots[r.next]
	sl.pages, sl.busy = need, true
	r.next = r.after(r.next)
	r.used++
	r.at, r.taken = at+pages, r.taken+need
	s.table[sl.number].start = (r.claim.from + at) << pageBits
	return s.table.out(sl.number, body<<pageBits), nil
}

// after is the slot after i.
//
//gommu:nosleep
func (r *Ring) after(i int) int {
	if i++; i < len(r.slots) {
		return i
	}
	return 0
}

// Free ends a window of this ring, with what Space.Free asks for and refuses. It never sleeps; the work is bounded by
// the windows that the ring has, and is small on the whole, since each becomes free once.
//
//gommu:nosleep
func (r *Ring) Free(w Window) error {
	rec := r.s.table.of(w)
	if rec == nil {
		return r.s.notOut(w)
	}
	i := int(rec.where >> kindBits)
	if rec.where&kindMask != kindRing || i >= len(r.slots) || r.slots[i].number != w.Number {
		return r.s.badKind(w)
	}
	rec.state = w.state + 1
	r.slots[i].busy = false
	for r.used > 0 && !r.slots[r.first].busy {
		r.taken -= r.slots[r.first].pages
		r.first = r.after(r.first)
		r.used--
	}
	return nil
}

// Close gives the ring's range and numbers back, which may sleep in Retire. While windows of it are out it
// returns ErrInUse and does nothing. Closing a closed ring does nothing.
func (r *Ring) Close() error {
	switch {
	case r.closed:
		return nil
	case r.used > 0:
		return &OpError{Op: "ring", Space: r.s.opts.Name, IOVA: r.Start(), Size: r.Size(), Err: fmt.Errorf("windows of the ring are %w: free them first", ErrInUse)}
	}
	r.closed = true
	r.giveNumbers()
	r.s.release(r.claim)
	r.s.part()
	return nil
}

//gommu:refusal
func (r *Ring) badSize(size uint64) error {
	return &OpError{Op: "alloc", Space: r.s.opts.Name, Size: size, Err: fmt.Errorf("%w: the ring has %#x bytes", ErrSize, r.Size())}
}

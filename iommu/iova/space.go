package iova

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"gommu/respool"
)

// A Space hands out windows of one I/O address space. Make one with New; it must not be copied.
type Space struct {
	opts  Options
	guard uint64 // bytes behind each window that are not the holder's: 0 or PageSize
	most  uint64 // the largest size that Alloc can serve
	route [Classes]uint8
	sizes [Classes]uint64 // of the windows of each class, less the guard
	pools [Classes]*respool.Pool[uint32]
	table table
	errs  hotErrors

	carvers [chunkClass]*carver

	closing atomic.Bool

	lowest, highest uint64 // pages

	mu       sync.Mutex // guards what follows; never held while a hook is called
	free     *extents
	numbers  numbers
	blocks   map[blockKey]*block
	singles  map[uint32]claim // by number
	lates    []late
	retiring int // calls of Retire under way
	waits    int // windows of AllocWait and rings, those that are being made among them
	emptied  chan struct{}
	dice     *rand.Rand // nil without Options.Random
	counts   counts
}

// New makes a space with some windows of each class ready, which takes as long as Prepare does. ctx bounds New only, and the space
// must be closed to end its workers. Options that make no sense are ErrBadOptions, of the space or of
// respool.
func New(ctx context.Context, opts Options) (*Space, error) {
	fail := func(err error) (*Space, error) {
		return nil, &OpError{Op: "new", Space: opts.Name, Err: err}
	}
	runs, err := opts.usable()
	if err != nil {
		return fail(err)
	}
	s := &Space{
		free:    newExtents(),
		blocks:  map[blockKey]*block{},
		singles: map[uint32]claim{},
		emptied: make(chan struct{}, 1),
		errs:    newHotErrors(opts.Name),
		lowest:  runs[0].from,
		highest: runs[len(runs)-1].to,
	}
	for _, r := range runs {
		s.free.put(r)
	}
	if err := opts.check(s.free.free); err != nil {
		return fail(err)
	}
	s.opts = opts
	s.table = make(table, opts.MaxWindows+1)
	s.numbers.most = uint32(opts.MaxWindows)
	if opts.Guard {
		s.guard = PageSize
	}
	if opts.Random {
		seed := opts.Seed
		if seed == 0 {
			seed = rand.Uint64()
		}
		s.dice = rand.New(rand.NewPCG(seed, seed))
	}
	if err := s.open(ctx); err != nil {
		return fail(errors.Join(err, s.closePools(context.Background())))
	}
	return s, nil
}

// open makes the pools.
func (s *Space) open(ctx context.Context) error {
	next := uint8(Classes)
	for k := Classes - 1; k >= 0; k-- {
		s.sizes[k] = ClassSize(k) - s.guard
		if st := s.opts.Stock[k]; st.Max != respool.None {
			var src respool.Source[uint32] = taker{s, k}
			if k < chunkClass {
				s.carvers[k] = newCarver(s, k)
				src = s.carvers[k]
			}
			p, err := respool.New(ctx, src, s.poolOptions(k, st))
			if err != nil {
				return err
			}
			s.pools[k] = p
			if next == Classes {
				s.most = s.sizes[k]
			}
			next = uint8(k)
		}
		s.route[k] = next
	}
	return nil
}

// Alloc takes a window of at least size bytes from what is ready: of the smallest class that is large enough, at a
// multiple of the class's size. If nothing is ready it returns ErrEmpty, once Close was called
// ErrClosed, and ErrSize for 0 and for more than the largest class has: use AllocWait for that. It
// never sleeps.
//
//gommu:nosleep
func (s *Space) Alloc(size uint64) (Window, error) {
	if size-1 >= s.most {
		return Window{}, s.badSize(size)
	}
	k := s.route[classOf(size+s.guard)]
	n, err := s.pools[k].Get()
	if err != nil {
		return Window{}, s.refusal(k)
	}
	return s.table.out(n, s.sizes[k]), nil
}

// Free ends a window that Alloc returned, of the Space or of any Cache of it. Whatever lies behind it must
// have been unmapped and invalidated: it may be handed out again at once. A window that is not out
// is refused with ErrNotOut, even if several calls try at once; one that AllocWait or a Ring returned with
// ErrKind; any with ErrClosed once Close is over. It never sleeps.
//
//gommu:nosleep
func (s *Space) Free(w Window) error {
	k, err := s.end(w)
	if err != nil {
		return err
	}
	if s.pools[k].Put(w.Number) != nil {
		s.table.undo(w)
		return s.errs.freeClosed
	}
	return nil
}

// FreeBatch frees windows as Free does, in order, for less than as many calls of Free cost where
// neighbours in ws are of one class. It stops at the first that is refused and says how many it has freed.
//
//gommu:nosleep
func (s *Space) FreeBatch(ws []Window) (int, error) {
	var batch [freeBatch]uint32
	done := 0
	for done < len(ws) {
		n, k, err := s.gather(ws[done:], batch[:])
		if n == 0 {
			return done, err
		}
		if s.pools[k].PutBatch(batch[:n]) != nil {
			for _, w := range ws[done:][:n] {
				s.table.undo(w)
			}
			return done, s.errs.freeClosed
		}
		if done += n; err != nil {
			return done, err
		}
	}
	return done, nil
}

const freeBatch = 32

// gather ends windows from the start of ws on, as long as they are of one class, k, and says how many. The error is why
// the next one was refused.
//
//gommu:nosleep
func (s *Space) gather(ws []Window, batch []uint32) (n int, k uint32, err error) {
	for _, w := range ws[:min(len(ws), len(batch))] {
		kind, err := s.end(w)
		if err != nil {
			return n, k, err
		}
		if n > 0 && kind != k {
			s.table.undo(w)
			return n, k, nil
		}
		k = kind
		batch[n] = w.Number
		n++
	}
	return n, k, nil
}

// end marks w, a window of a class, as free, which only one of several calls can do.
//
//gommu:nosleep
func (s *Space) end(w Window) (class uint32, err error) {
	if !s.table.end(w) {
		return 0, s.notOut(w)
	}
	r := &s.table[w.Number]
	class = r.where & kindMask
	switch {
	case r.start != w.Start:
		s.table.undo(w)
		return 0, s.notOut(w)
	case class >= Classes:
		s.table.undo(w)
		return 0, s.badKind(w)
	}
	return class, nil
}

// refusal is the error of an Alloc of class k that got nothing.
//
//gommu:nosleep
func (s *Space) refusal(k uint8) error {
	if s.closing.Load() {
		return s.errs.closed
	}
	return s.errs.empty[k]
}

//gommu:refusal
func (s *Space) badSize(size uint64) error {
	err := ErrSize
	if size > s.most {
		err = fmt.Errorf("%w: it is more than %#x, the largest class that is kept ready: use AllocWait", ErrSize, s.most)
	}
	return &OpError{Op: "alloc", Space: s.opts.Name, Size: size, Err: err}
}

//gommu:refusal
func (s *Space) badKind(w Window) error {
	return &OpError{Op: "free", Space: s.opts.Name, IOVA: w.Start, Size: w.Size, Err: fmt.Errorf("%w: one of AllocWait by FreeWait, one of a ring to that ring", ErrKind)}
}

//gommu:refusal
func (s *Space) notOut(w Window) error {
	return &OpError{Op: "free", Space: s.opts.Name, IOVA: w.Start, Size: w.Size, Err: ErrNotOut}
}

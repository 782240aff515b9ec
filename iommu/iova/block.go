package iova

import (
	"context"
	"errors"
	"fmt"
)

// levels of blocks, as Prepare and Retire are told.
const (
	chunkLevel = 0
	areaLevel  = 1
	levels     = 2
)

// blockPages is how many pages a block of each level has, as a power of two.
var blockPages = [levels]uint{chunkBits - pageBits, areaBits - pageBits}

type blockKey struct {
	level int
	index uint64 // its first page over its size
}

func (k blockKey) run() run {
	return run{k.index << blockPages[k.level], (k.index + 1) << blockPages[k.level]}
}

// A block is used by windows smaller than it. It exists from the first of these to the last.
type block struct {
	users    int
	prepared bool
	busy     chan struct{} // closed when the Prepare that is under way has returned; else nil
}

// A late is a block whose Retire failed, or is under way, with what is free of it.
type late struct {
	key  blockKey
	free []run
}

// A claim is a run taken out of the free ones. Its body, less a guard page, is for windows: a single one or, where it is carved,
// smaller ones.
type claim struct {
	run
	body   uint64 // pages
	carved bool
}

// blocks calls f with the blocks of a level that the claim uses, from the lowest on: all that a carved one touches, else
// those that it has a part of.
func (c claim) blocks(level int, f func(blockKey)) {
	bits := blockPages[level]
	first, last := c.from>>bits, (c.from+c.body-1)>>bits
	for i := first; i <= last; i++ {
		k := blockKey{level, i}
		if b := k.run(); c.carved || b.from < c.from || b.to > c.from+c.body {
			f(k)
		} else if last > i+1 {
			i = last - 1 // all between are covered from end to end
		}
	}
}

// claim takes w out of what is free, and prepares the blocks that this calls for.
func (s *Space) claim(ctx context.Context, w want, carved bool, at *uint64) (claim, error) {
	s.retryOne()
	s.mu.Lock()
	from, err := s.place(w, at)
	if err != nil {
		s.mu.Unlock()
		return claim{}, err
	}
	c := claim{run: run{from, from + w.pages}, body: w.body, carved: carved}
	s.enter(c)
	s.mu.Unlock()
	if err := s.prepare(ctx, c); err != nil {
		s.release(c)
		return claim{}, err
	}
	return c, nil
}

// place takes w out of what is free, s.mu being held.
func (s *Space) place(w want, at *uint64) (uint64, error) {
	if at != nil {
		if !s.free.take(run{*at, *at + w.pages}) {
			return 0, fmt.Errorf("%w: the place is not free, or not usable at all: ask for another one", ErrInUse)
		}
		return *at, nil
	}
	from, ok := s.find(w)
	if !ok {
		return 0, ErrNoSpace
	}
	s.free.take(run{from, from + w.pages})
	return from, nil
}

// find is the highest place for w, or with Options.Random the highest below a random page.
func (s *Space) find(w want) (uint64, bool) {
	if s.dice != nil {
		low := w
		low.below = min(w.below, s.lowest+w.pages+s.dice.Uint64N(s.highest-s.lowest))
		if from, ok := s.free.find(low); ok {
			return from, true
		}
	}
	return s.free.find(w)
}

// enter counts c as a user of its blocks, s.mu being held.
func (s *Space) enter(c claim) {
	if s.opts.Prepare == nil {
		return
	}
	for level := range levels {
		c.blocks(level, func(k blockKey) {
			b := s.blocks[k]
			if b == nil {
				b = new(block)
				s.blocks[k] = b
			}
			b.users++
		})
	}
}

// prepare sees to it that all blocks of c, which has entered them, are prepared.
func (s *Space) prepare(ctx context.Context, c claim) error {
	if s.opts.Prepare == nil {
		return nil
	}
	for level := levels - 1; level >= 0; level-- {
		var keys []blockKey
		c.blocks(level, func(k blockKey) { keys = append(keys, k) })
		for _, k := range keys {
			if err := s.prepareBlock(ctx, k); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Space) prepareBlock(ctx context.Context, k blockKey) error {
	for {
		s.mu.Lock()
		b := s.blocks[k]
		if b.prepared {
			s.mu.Unlock()
			return nil
		}
		busy := b.busy
		if busy == nil {
			b.busy = make(chan struct{})
			s.mu.Unlock()
			return s.callPrepare(ctx, k, b)
		}
		s.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *Space) callPrepare(ctx context.Context, k blockKey, b *block) error {
	r := k.run()
	err := s.opts.Prepare(ctx, k.level, r.from<<pageBits, r.pages()<<pageBits)
	s.mu.Lock()
	defer s.mu.Unlock()
	b.prepared = err == nil
	close(b.busy)
	b.busy = nil
	if err != nil {
		s.counts.prepareErrors++
		return fmt.Errorf("%w: level %d, %#x bytes at %#x: %w", ErrPrepare, k.level, r.pages()<<pageBits, r.from<<pageBits, err)
	}
	s.counts.prepared[k.level]++
	return nil
}

// release makes c free again, as soon as the blocks that nobody uses any more are retired.
func (s *Space) release(c claim) {
	s.mu.Lock()
	s.free.put(c.run)
	lates := s.leave(c)
	s.mu.Unlock()
	for _, l := range lates {
		_ = s.retire(l) // who fails is late, and counted
	}
	s.retryOne()
}

// leave ends c's use of its blocks, and returns those that are to be retired, s.mu being held since c is free: else a window
// that covers a block could be taken before the block is left, and be in use while it is retired. Those of an area
// that have still to be retired keep it in use.
func (s *Space) leave(c claim) (lates []late) {
	if s.opts.Prepare == nil {
		return nil
	}
	for level := range levels {
		c.blocks(level, func(k blockKey) { lates = s.leaveBlock(k, lates) })
	}
	return lates
}

// leaveBlock ends one use of block k, s.mu being held. If it was the last one the block is to be retired, and added to lates.
func (s *Space) leaveBlock(k blockKey, lates []late) []late {
	b := s.blocks[k]
	if b.users--; b.users > 0 {
		return lates
	}
	delete(s.blocks, k)
	if !b.prepared {
		return lates
	}
	// All that is free of it is taken meanwhile, so nobody can use it.
	l := late{key: k, free: s.free.takeAll(k.run())}
	if k.level == chunkLevel {
		s.blocks[l.area()].users++ // the caller uses the area still
	}
	s.retiring++
	return append(lates, l)
}

// area is the block of level 1 that l lies in.
func (l late) area() blockKey {
	return blockKey{areaLevel, l.key.index >> (areaBits - chunkBits)}
}

// retire calls Retire for l. If that fails l is kept for later.
func (s *Space) retire(l late) error {
	r := l.key.run()
	err := s.opts.Retire(l.key.level, r.from<<pageBits, r.pages()<<pageBits)
	s.mu.Lock()
	s.retiring--
	if err != nil {
		s.counts.retireErrors++
		s.lates = append(s.lates, l)
		s.mu.Unlock()
		return &OpError{Op: "free", Space: s.opts.Name, IOVA: r.from << pageBits, Size: r.pages() << pageBits, Err: fmt.Errorf("%w: %w", ErrRetire, err)}
	}
	s.counts.prepared[l.key.level]--
	for _, part := range l.free {
		s.free.put(part)
	}
	var above []late
	if l.key.level == chunkLevel {
		above = s.leaveBlock(l.area(), nil)
	}
	s.mu.Unlock()
	for _, l := range above {
		_ = s.retire(l)
	}
	return nil
}

// retryOne tries the oldest late block again.
func (s *Space) retryOne() {
	if l, ok := s.oldest(); ok {
		_ = s.retire(l)
	}
}

func (s *Space) oldest() (l late, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.lates) == 0 {
		return l, false
	}
	l = s.lates[0]
	s.lates = s.lates[1:]
	s.retiring++
	return l, true
}

// retryAll tries each late block once more and returns what failed.
func (s *Space) retryAll() error {
	s.mu.Lock()
	n := len(s.lates)
	s.mu.Unlock()
	var errs []error
	for range n {
		l, ok := s.oldest()
		if !ok {
			break
		}
		if err := s.retire(l); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

package pagetable

import (
	"errors"
	"fmt"
	"sync/atomic"

	"gommu/respool"
)

// frameList is a stack of frames that no table uses, linked through word 0 of
// each. It needs no other memory, so it can grow where nothing may be
// allocated.
//
// A unit may still walk such a frame: it may have cached the entry that
// pointed to it until the invalidation that follows. It is not led astray by
// the link: as an entry, a bus address that is a multiple of 4 KiB is not
// present.
type frameList struct {
	head Frame
	tail Frame // the first one pushed; meant only while n > 0
	n    int
}

func (l *frameList) push(m *Memory, f Frame) {
	if l.n == 0 {
		l.tail = f
	}
	store(&m.entries(f.Bus)[0], pte(l.head.Bus))
	l.head = f
	l.n++
}

// join moves all frames of o to l.
func (l *frameList) join(m *Memory, o *frameList) {
	switch {
	case o.n == 0:
		return
	case l.n == 0:
		*l = *o
	default:
		store(&m.entries(o.tail.Bus)[0], pte(l.head.Bus))
		l.head = o.head
		l.n += o.n
	}
	*o = frameList{}
}

// pop takes a frame off a list that is not empty. Its word 0 is zero again. It
// returns nil words, and the list is empty then, if something else has
// written over the links: the tables pointed to memory that is not theirs.
func (l *frameList) pop(m *Memory) (Frame, *[entries]uint64) {
	f := l.head
	words := m.entries(f.Bus)
	if words == nil || l.n == 0 {
		*l = frameList{}
		return Frame{}, nil
	}
	l.head = Frame{load(&words[0]).bus()}
	l.n--
	store(&words[0], 0)
	return f, words
}

// take gets n frames from the pool, or none of them.
func (t *Table) take(n int) (frameList, error) {
	var l frameList
	for l.n < n {
		f, err := t.get()
		if err == nil {
			l.push(t.mem, f)
			continue
		}
		if perr := t.putBack(&l); perr != nil {
			//gommu:trust the error of a closed pool
			err = fmt.Errorf("%w; giving frames back: %w", err, perr)
			//gommu:trust the pool's errors are its own: errors.Is compares down a short chain
		} else if errors.Is(err, respool.ErrEmpty) {
			err = respool.ErrEmpty
		}
		return frameList{}, err
	}
	return l, nil
}

// putBack gives frames back that were not needed. Close gives back the ones
// that the pool refuses.
func (t *Table) putBack(l *frameList) error {
	if l.n == 0 {
		return nil
	}
	err := t.putAll(l)
	t.refused.pushAll(t.mem, l)
	return err
}

// putAll clears the frames of the list and puts them into the pool. It tries
// all of them and returns the first error; the ones that the pool refused
// stay in the list.
func (t *Table) putAll(l *frameList) (first error) {
	var refused frameList
	for l.n > 0 {
		f, words := l.pop(t.mem)
		if words == nil {
			first = ErrCorrupt
			break
		}
		fill(words[:], 0, 0)
		if err := t.frames.Put(f); err != nil {
			refused.push(t.mem, f)
			if first == nil {
				first = err
			}
		}
	}
	*l = refused
	return first
}

// frameStack is a frameList that several goroutines may push to at once. It is
// only ever emptied as a whole, so a head that comes again does no harm. The
// link is in word 0 of each frame; word 1 is the pusher's.
type frameStack struct{ head atomic.Uint64 } // a bus address plus 1, or 0

func (s *frameStack) push(m *Memory, f Frame) {
	words := m.entries(f.Bus)
	for {
		h := s.head.Load()
		// The mark, in bit 0 of head, would make an entry present; so it is in word 2.
		store(&words[0], pte(h&^1))
		store(&words[2], pte(h&1)<<pageBits)
		if s.head.CompareAndSwap(h, f.Bus|1) {
			return
		}
	}
}

// pushAll moves a list to the stack.
func (s *frameStack) pushAll(m *Memory, l *frameList) {
	for l.n > 0 {
		if f, words := l.pop(m); words != nil {
			s.push(m, f)
		}
	}
}

// all takes everything.
func (s *frameStack) all(m *Memory) (l frameList) {
	if s.head.Load() == 0 {
		return l
	}
	for h := s.head.Swap(0); h != 0; {
		f := Frame{h &^ 1}
		words := m.entries(f.Bus)
		if words == nil {
			break
		}
		h = load(&words[0]).bus() | uint64(load(&words[2]))>>pageBits
		l.push(m, f)
	}
	return l
}

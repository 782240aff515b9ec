package pagetable

import (
	"errors"
	"fmt"

	"gommu/respool"
)

// frameList is a stack of frames that no table uses, linked through word 0 of
// each. It needs no other memory, so it can grow where nothing may be
// allocated.
//
// A unit may still walk such a frame: it may have cached the entry that
// pointed to it until the invalidation that follows. It is not led astray by
// the link: a bus address that is a multiple of 4 KiB has R = W = 0, so as an
// entry it is not present.
type frameList struct {
	head Frame
	n    int
}

func (l *frameList) push(m *Memory, f Frame) {
	store(&m.entries(f.Bus)[0], pte(l.head.Bus))
	l.head = f
	l.n++
}

// pop takes a frame off a list that is not empty. Its word 0 is zero again.
func (l *frameList) pop(m *Memory) (Frame, *[entries]uint64) {
	f := l.head
	words := m.entries(f.Bus)
	l.head = Frame{load(&words[0]).bus()}
	l.n--
	store(&words[0], 0)
	return f, words
}

// take gets n frames from the pool, or none of them. If the pool is dry it
// returns errDry.
func (t *Table) take(n int) (frameList, error) {
	var l frameList
	for l.n < n {
		f, err := t.get()
		if err == nil {
			l.push(t.mem, f)
			continue
		}
		if perr := t.putAll(&l); perr != nil {
			for l.n > 0 {
				f, _ := l.pop(t.mem)
				t.refused.push(t.mem, f)
			}
			err = fmt.Errorf("%w; giving frames back: %w", err, perr)
		} else if errors.Is(err, respool.ErrEmpty) {
			err = errDry
		}
		return frameList{}, err
	}
	return l, nil
}

// putAll clears the frames of the list and puts them into the pool. It tries
// all of them and returns the first error; the ones that the pool refused
// stay in the list.
func (t *Table) putAll(l *frameList) (first error) {
	var refused frameList
	for l.n > 0 {
		f, words := l.pop(t.mem)
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

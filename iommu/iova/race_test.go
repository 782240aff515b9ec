package iova

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// An atlas knows of each page of a small space, and of each number, whether it is in use, for several goroutines at once.
type atlas struct {
	pages   []atomic.Bool
	numbers []atomic.Bool
	guard   uint64
}

func (a *atlas) mark(w Window, used bool) bool {
	ok := a.numbers[w.Number].Swap(used) != used
	for p := w.Start >> pageBits; p < (w.Start+w.Size)>>pageBits+a.guard; p++ {
		ok = a.pages[p].Swap(used) != used && ok
	}
	return ok
}

// Goroutines allocate and free in all ways at once, hand windows to each other, and the workers grow and shrink.
func TestAllAtOnce(t *testing.T) {
	for _, guard := range []bool{false, true} {
		h := newHooks()
		o := h.in(Options{
			Ranges: []Range{{0, 256<<20 - 1}}, MaxWindows: 3000, Guard: guard, Random: guard, IdleAfter: time.Millisecond, MinAge: time.Millisecond,
			Stock: keepOnly(map[int]Stock{0: {8, 16, 1000}, 1: {8, 16, 1000}, 3: {8, 16, 500}, 6: {4, 8, 100}, 9: {1, 2, 10}, 10: {1, 1, 4}}),
		})
		h.fail = func(call int) bool { return call%7 == 0 }
		s, err := New(context.Background(), o)
		for err != nil { // its Prepare failed
			if !errors.Is(err, errHook) {
				t.Fatal(err)
			}
			s, err = New(context.Background(), o)
		}
		a := &atlas{pages: make([]atomic.Bool, 256<<20>>pageBits+1), numbers: make([]atomic.Bool, 3001)}
		if guard {
			a.guard = 1
		}
		passed := make(chan Window, 64) // from one goroutine to another
		var all sync.WaitGroup
		for i := range 6 {
			all.Go(func() { oneOfMany(t, s, a, passed, rand.New(rand.NewPCG(uint64(i), 3))) })
		}
		all.Wait()
		close(passed)
		for w := range passed {
			a.mark(w, false)
			if err := s.Free(w); err != nil {
				t.Error(err)
			}
		}
		h.mu.Lock()
		h.fail = nil
		h.mu.Unlock()
		shut(t, s, h)
	}
}

func oneOfMany(t *testing.T, s *Space, a *atlas, passed chan Window, dice *rand.Rand) {
	c := s.NewCache(1 + dice.IntN(20))
	ring, err := s.NewRing(context.Background(), 1<<20, 20)
	var mine, waited, ringed []Window
	got := func(ws *[]Window, w Window, err error) {
		switch {
		case err == nil:
			if !a.mark(w, true) {
				t.Errorf("%+v was in use", w)
			}
			*ws = append(*ws, w)
		case !errors.Is(err, ErrEmpty) && !errors.Is(err, errHook) && !errors.Is(err, ErrNoSpace) && !errors.Is(err, ErrNumbers):
			t.Error(err)
		}
	}
	give := func(ws *[]Window, free func(Window) error) {
		if n := len(*ws); n > 0 {
			w := (*ws)[dice.IntN(n)]
			*ws = without1(*ws, w)
			a.mark(w, false)
			if err := free(w); err != nil {
				t.Error(err)
			}
		}
	}
	for range 3000 {
		switch size := 1 + uint64(dice.IntN(3<<20))>>dice.IntN(22); dice.IntN(9) {
		case 0:
			w, err := s.Alloc(size)
			got(&mine, w, err)
		case 1, 2:
			w, err := c.Alloc(size)
			got(&mine, w, err)
		case 3:
			give(&mine, s.Free)
		case 4:
			give(&mine, c.Free)
		case 5:
			if len(mine) == 0 {
				continue
			}
			w := mine[0]
			select {
			case passed <- w:
				mine = mine[1:]
			case w := <-passed:
				mine = append(mine, w)
			}
		case 6:
			w, err := s.AllocWait(context.Background(), Request{Size: size, Align: 1 << dice.IntN(20)})
			got(&waited, w, err)
		case 7:
			give(&waited, s.FreeWait)
		case 8:
			if ring == nil {
				continue
			}
			w, err := ring.Alloc(1 + size&0xffff)
			got(&ringed, w, err)
			if len(ringed) > 10 {
				give(&ringed, ring.Free)
			}
		}
	}
	for len(mine) > 0 {
		give(&mine, c.Free)
	}
	for len(waited) > 0 {
		give(&waited, s.FreeWait)
	}
	for len(ringed) > 0 {
		give(&ringed, ring.Free)
	}
	if err == nil {
		err = ring.Close()
	}
	if err != nil && !errors.Is(err, errHook) && !errors.Is(err, ErrNoSpace) && !errors.Is(err, ErrNumbers) {
		t.Error(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func without1(ws []Window, w Window) []Window {
	for i := range ws {
		if ws[i] == w {
			ws[i] = ws[len(ws)-1]
			return ws[:len(ws)-1]
		}
	}
	return ws
}

// Of several that free one window at the same time one succeeds.
func TestFreedByAll(t *testing.T) {
	s := open(t, Options{Stock: keepOnly(map[int]Stock{0: {Low: 64, Max: 64}})})
	for range 64 {
		w, err := s.Alloc(1)
		if err != nil {
			t.Fatal(err)
		}
		var freed atomic.Int32
		var all sync.WaitGroup
		for i := range 4 {
			all.Go(func() {
				free := s.Free
				if i%2 == 0 {
					free = func(w Window) error { return second(s.FreeBatch([]Window{w})) }
				}
				if err := free(w); err == nil {
					freed.Add(1)
				} else if !errors.Is(err, ErrNotOut) {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if n := freed.Load(); n != 1 {
			t.Fatalf("%d have freed it", n)
		}
	}
	shut(t, s, nil)
}

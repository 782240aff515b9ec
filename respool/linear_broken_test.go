package respool_test

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"gommu/respool"
)

// A lockedStock is a right stock, if a slow one: everything under one mutex. Its fields make it
// wrong in one way each.
type lockedStock struct {
	mu    sync.Mutex
	free  []int
	marks []int
	calls int

	double    bool // every 64th get leaves the element there
	loses     bool // every 64th put drops what it was given
	impatient bool // a get that does not get the lock at once says ErrEmpty
	late      bool // what a put brings is there only at the next call but one
	torn      bool // a batch is taken one by one, and given back if there is too little
	partial   bool // a batch that finds too little keeps what it found
	promises  bool // a reservation is a number, and what it is drawn from others may take
	unmarked  bool // classes are ignored

	pending []int
}

func (s *lockedStock) lock() (sometimes bool) {
	s.mu.Lock()
	s.calls++
	if s.late && s.calls%2 == 0 {
		s.free, s.pending = append(s.free, s.pending...), nil
	}
	return s.calls%64 == 0
}

// take is called with the lock held.
func (s *lockedStock) take(dst []int, class int) error {
	leave := s.marks[class]
	if s.unmarked {
		leave = 0
	}
	n := len(s.free) - len(dst)
	if n < leave {
		return respool.ErrEmpty
	}
	copy(dst, s.free[n:])
	s.free = s.free[:n]
	return nil
}

func (s *lockedStock) get(class int) (int, error) {
	if s.impatient {
		if !s.mu.TryLock() {
			return 0, respool.ErrEmpty
		}
		s.mu.Unlock()
	}
	sometimes := s.lock()
	defer s.mu.Unlock()
	if s.impatient {
		runtime.Gosched()
	}
	var dst [1]int
	err := s.take(dst[:], class)
	if s.double && sometimes && err == nil {
		s.free = append(s.free, dst[0])
	}
	return dst[0], err
}

func (s *lockedStock) getBatch(dst []int, class int) error {
	if s.torn || s.partial {
		return s.getOneByOne(dst, class)
	}
	s.lock()
	defer s.mu.Unlock()
	return s.take(dst, class)
}

func (s *lockedStock) getOneByOne(dst []int, class int) error {
	for i := range dst {
		e, err := s.get(class)
		runtime.Gosched()
		if err == nil {
			dst[i] = e
			continue
		}
		if s.torn {
			_ = s.putBatch(dst[:i])
		}
		return err
	}
	return nil
}

func (s *lockedStock) put(e int) error { return s.putBatch([]int{e}) }

func (s *lockedStock) putBatch(es []int) error {
	sometimes := s.lock()
	defer s.mu.Unlock()
	switch {
	case s.loses && sometimes:
	case s.late:
		s.pending = append(s.pending, es...)
	default:
		s.free = append(s.free, es...)
	}
	return nil
}

func (s *lockedStock) reserve(n, class int) (part, error) {
	p := &lockedPart{s: s, class: class}
	return p, p.add(n)
}

// A lockedPart is a reservation of a lockedStock, itself under the stock's lock.
type lockedPart struct {
	s     *lockedStock
	class int
	es    []int
	n     int // where it only promises
}

func (p *lockedPart) add(n int) error {
	p.s.lock()
	defer p.s.mu.Unlock()
	dst := make([]int, n)
	if err := p.s.take(dst, p.class); err != nil {
		return err
	}
	if p.s.promises {
		p.s.free = append(p.s.free, dst...)
		p.n += n
		return nil
	}
	p.es = append(p.es, dst...)
	return nil
}

func (p *lockedPart) get() (int, error) {
	p.s.lock()
	defer p.s.mu.Unlock()
	if p.s.promises && p.n > 0 {
		var dst [1]int
		p.n--
		return dst[0], p.s.take(dst[:], p.class)
	}
	if len(p.es) == 0 {
		return 0, respool.ErrSpent
	}
	e := p.es[0]
	p.es = p.es[1:]
	return e, nil
}

func (p *lockedPart) put(e int) error {
	p.s.lock()
	defer p.s.mu.Unlock()
	p.es = append(p.es, e)
	return nil
}

func (p *lockedPart) split(n int) (part, error) {
	p.s.lock()
	defer p.s.mu.Unlock()
	if n > len(p.es) {
		return nil, respool.ErrSpent
	}
	q := &lockedPart{s: p.s, class: p.class, es: slices.Clone(p.es[:n])}
	p.es = p.es[n:]
	return q, nil
}

func (p *lockedPart) giveBack() error {
	p.s.lock()
	defer p.s.mu.Unlock()
	p.s.free = append(p.s.free, p.es...)
	p.es = nil
	return nil
}

// The checker of TestLinearizable accepts a right stock and rejects every wrong one.
func TestLinearizableRejects(t *testing.T) {
	next := varyProcs(t)
	enoughRight := 500
	if testing.Short() || respool.RaceDetector {
		enoughRight = 50
	}
	for name, wrong := range map[string]func(*lockedStock){
		"right":     func(*lockedStock) {},
		"double":    func(s *lockedStock) { s.double = true },
		"loses":     func(s *lockedStock) { s.loses = true },
		"impatient": func(s *lockedStock) { s.impatient = true },
		"late":      func(s *lockedStock) { s.late = true },
		"torn":      func(s *lockedStock) { s.torn = true },
		"partial":   func(s *lockedStock) { s.partial = true },
		"promises":  func(s *lockedStock) { s.promises = true },
		"unmarked":  func(s *lockedStock) { s.unmarked = true },
	} {
		t.Run(name, func(t *testing.T) {
			var n tally
			rejected := false
			for until := time.Now().Add(time.Minute); !rejected && time.Now().Before(until); next() {
				if name == "right" && n.histories >= enoughRight {
					return
				}
				const size = 4
				s := &lockedStock{free: []int{1, 2, 3, 4}, marks: []int{2, 1, 0}}
				wrong(s)
				seed := rand.Uint64()
				ops := checked(&n, s, size, s.marks, seed)
				if rejected = ops != nil; rejected && name == "right" {
					t.Fatalf("seed %d: rejected\n%s", seed, describe(size, ops))
				}
			}
			if !rejected {
				t.Errorf("not rejected: %+v", n)
			}
			t.Logf("rejected after %d histories", n.histories)
		})
	}
}

package discipline

import (
	"sync"
	"sync/atomic"
)

// A stock is a stack of ready elements with a bound: its capacity.
type stock[T any] struct {
	mu    sync.Mutex
	elems []T
	_     [64]byte // no two stocks share a cache line
}

// take takes the element that came last, and says how many are left.
func (s *stock[T]) take() (e T, left int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.elems)
	if n == 0 {
		return e, 0, false
	}
	var none T
	e = s.elems[n-1]
	s.elems[n-1] = none // keep nothing alive that e points to
	s.elems = s.elems[:n-1]
	return e, n - 1, true
}

// put puts e into the stock, unless that is full.
func (s *stock[T]) put(e T) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.elems) == cap(s.elems) {
		return false
	}
	s.elems = append(s.elems, e)
	return true
}

// pile puts e into the stock and raises the bound if need be.
func (s *stock[T]) pile(e T) { s.mu.Lock(); defer s.mu.Unlock(); s.elems = append(s.elems, e) }

func (s *stock[T]) len() int { s.mu.Lock(); defer s.mu.Unlock(); return len(s.elems) }

// A bell wakes all who wait for elements. Who waits calls listen and then looks, who has an
// element to offer puts it where it is looked for and then calls strike. If strike finds nobody
// waiting, those who come later find the element; if it finds somebody, it closes the channel
// that they have, or they get their channel, and look, after it. So no wake-up is lost.
type bell struct {
	waiting atomic.Int64
	mu      sync.Mutex
	stroke  chan struct{}
}

func newBell() *bell { return &bell{stroke: make(chan struct{})} }

// enter and leave enclose the calls of listen.
func (b *bell) enter() { b.waiting.Add(1) }
func (b *bell) leave() { b.waiting.Add(-1) }

// listen returns what the next strike closes.
func (b *bell) listen() <-chan struct{} { b.mu.Lock(); defer b.mu.Unlock(); return b.stroke }

func (b *bell) strike() {
	if b.waiting.Load() == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.stroke)
	b.stroke = make(chan struct{})
}

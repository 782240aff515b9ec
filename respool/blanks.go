package respool

import (
	"runtime"
	"sync/atomic"

	"gommu/internal/procpin"
)

// blanks are the slots without an element, which gets leave and puts need. Each processor
// has a stock of them that costs no locked instruction; what is too much there goes to
// rest, what is missing comes from there. There are so many more slots than elements that
// with every stock full rest still has one for each element that is out. So no stock ever has
// to give to another one, and who is stopped with his hands in one keeps nobody from anything.
type blanks struct {
	stocks []stock // by processor; none under the race detector
	room   uint32  // of each stock
	trade  uint32  // how many slots go to rest or come from there at a time
	rest   stack
}

// A stock is the slots of one processor. Only a goroutine that is pinned there touches it.
type stock struct {
	n     uint32
	slots [stockSize]uint32
}

const (
	stockSize = 63 // with n, four cache lines
	maxStocks = 1024
	// shares is how many slots all stocks together have for each element at most, or one each if that
	// is more: a slot takes the room of an element and 8 bytes, however many processors there are.
	shares = 4
	// chunk is how many slots the hot path moves through an array of its own.
	chunk = 32
)

// init makes the stocks of a pool of so many elements and says how many slots it takes beside
// one for each element.
func (b *blanks) init(elements int) (extra int) {
	if procpin.Works {
		b.stocks = make([]stock, min(runtime.GOMAXPROCS(0), maxStocks))
		b.room = uint32(min(stockSize, elements, max(1, shares*elements/len(b.stocks))))
		b.trade = min(b.room/2, chunk-1)
	}
	return len(b.stocks) * int(b.room)
}

// fill puts the slots from first on into rest, all that links has room for.
func (b *blanks) fill(links []atomic.Uint64, first int) {
	b.rest.init(links)
	for i := len(links) - 1; i >= first; i-- {
		b.rest.push(uint32(i), 0, nil)
	}
}

// put takes slot i in.
//
//gommu:nosleep
func (b *blanks) put(i uint32) {
	if !procpin.Works {
		b.rest.push(i, 0, nil)
		return
	}
	cpu := procpin.Pin()
	if uint(cpu) >= uint(len(b.stocks)) { // GOMAXPROCS was raised
		procpin.Unpin()
		b.rest.push(i, 0, nil)
		return
	}
	s := &b.stocks[cpu]
	if n := s.n; n < b.room && n < stockSize {
		s.slots[n] = i
		s.n = n + 1
		procpin.Unpin()
		return
	}
	b.spill(s, i)
}

// spill is put where the stock s is full. It ends the pin, and not earlier than what it has in
// its hands is in rest: otherwise goroutines that are preempted here might keep all
// that others need.
//
//gommu:nosleep
func (b *blanks) spill(s *stock, i uint32) {
	var slots [chunk]uint32
	slots[0] = i
	s.n -= b.trade
	n := 1 + copy(slots[1:], s.slots[s.n:s.n+b.trade])
	b.rest.pushSlots(slots[:n], 0, nil)
	procpin.Unpin()
}

// putMany takes up to chunk slots in.
//
//gommu:nosleep
func (b *blanks) putMany(slots []uint32) {
	if procpin.Works {
		if cpu := procpin.Pin(); uint(cpu) < uint(len(b.stocks)) {
			s := &b.stocks[cpu]
			if n := s.n + uint32(len(slots)); n <= b.room {
				copy(s.slots[s.n:], slots)
				s.n = n
				procpin.Unpin()
				return
			}
		}
		procpin.Unpin()
	}
	b.rest.pushSlots(slots, 0, nil)
}

// get hands a slot out. There is none, and it is 0, only if more elements were put than got.
//
//gommu:nosleep
func (b *blanks) get() uint32 {
	if !procpin.Works {
		i, _, _ := b.rest.pop(0, 0)
		return i
	}
	cpu := procpin.Pin()
	if uint(cpu) >= uint(len(b.stocks)) {
		procpin.Unpin()
		i, _, _ := b.rest.pop(0, 0)
		return i
	}
	s := &b.stocks[cpu]
	if n := s.n - 1; n < stockSize {
		s.n = n
		i := s.slots[n]
		procpin.Unpin()
		return i
	}
	return b.fetch(s)
}

// fetch is get where the stock s is empty. It ends the pin, as spill does.
//
//gommu:nosleep
func (b *blanks) fetch(s *stock) uint32 {
	var slots [chunk]uint32
	n, _, _ := b.rest.popSlots(slots[:1+b.trade], 1, 0, 0)
	if n > 1 {
		s.n = uint32(copy(s.slots[:], slots[1:n]))
	}
	procpin.Unpin()
	return slots[0]
}

// getMany fills dst, of up to chunk slots, or returns false: see get.
//
//gommu:nosleep
func (b *blanks) getMany(dst []uint32) bool {
	if procpin.Works {
		if cpu := procpin.Pin(); uint(cpu) < uint(len(b.stocks)) {
			s := &b.stocks[cpu]
			if n := uint32(len(dst)); n <= s.n {
				s.n -= n
				copy(dst, s.slots[s.n:s.n+n])
				procpin.Unpin()
				return true
			}
		}
		procpin.Unpin()
	}
	n, _, _ := b.rest.popSlots(dst, len(dst), 0, 0)
	return n > 0
}

package iommu

import (
	"sync/atomic"

	"gommu/internal/cacheline"
	"gommu/internal/probe"
)

// A flusher numbers the flushes of all of the domain and keeps count of them. A flush n is begun on each unit
// after started has become n, and only when all before it are done.
//
// So a mapping is out of all caches, and may be reused, once more flushes are done than
// were started at some moment after its entries were cleared. That moment must not come early for the unit
// either: between the clearing and the load of started is a locked instruction (of the use count
// of the table, and of the list that the record is pushed to), behind which
// no processor has a store still in its buffers.
type flusher struct {
	started atomic.Uint64
	done    atomic.Uint64
	_       [cacheline.Size - 16]byte

	// This is a cache line as well.
	turn     atomic.Uint32 // 1 while somebody gives commands
	failed   atomic.Bool   // a unit has failed: the worker sees to it
	bindings atomic.Pointer[[]*bound]
	subject  *subject
	begin    int64 // of who has the turn: when the flush under way was begun, 0 if nobody wants to be told of it
	cover    cover
}

// A bound is a unit that the domain is known to.
type bound struct {
	Binding
	unit    Unit
	devices int

	// Of who has the turn: the number and ticket of the last flush begun here, and the last one done.
	begun, done uint64
	ticket      Ticket
	err         error // what the unit failed with
	gone        bool  // the unit was removed: all is done
}

// spins is how often a call that does not sleep looks for the unit before it gives up: some
// 50 milliseconds and more. Units take microseconds.
const spins = 1 << 24

// publishTries is how often a unit is told of a map. Each try spins for a tenth of a millisecond or more, which the
// one who tells the unit something else at this moment may be away from the processor for.
const publishTries = 1024

// kick sees that flush number want is begun if none is on its way, and notes those that are done. If
// somebody else is at it, it leaves it to him and says so.
//
//gommu:nosleep
func (f *flusher) kick(want uint64) (mine bool) {
	if !f.turn.CompareAndSwap(0, 1) {
		return false
	}
	f.advance(want)
	f.turn.Store(0)
	return true
}

//gommu:nosleep
func (f *flusher) advance(want uint64) {
	started := f.started.Load()
	if started < want && f.done.Load() == started {
		started++
		f.begin = probe.Begin(probe.Flush)
		f.started.Store(started)
	}
	done := started
	for _, b := range *f.bindings.Load() {
		if err := b.advance(started); err != nil && err != ErrBusy {
			b.err = err
			if !f.failed.Swap(true) && f.begin != 0 {
				f.subject.tellFlush(f.begin, 0, 0, false)
			}
		}
		done = min(done, b.done)
	}
	if done != f.done.Load() {
		f.done.Store(done)
		f.tell(done)
	}
}

// tell tells of flush number n, which is done.
//
//gommu:nosleep
func (f *flusher) tell(n uint64) {
	count, bytes := f.cover.take(n)
	if f.begin != 0 {
		f.subject.tellFlush(f.begin, count, bytes, true)
	}
}

// advance begins flush number started, unless that was done before, and looks whether
// the last one is done.
//
//gommu:nosleep
func (b *bound) advance(started uint64) error {
	if b.gone {
		b.begun, b.done = started, started
		return nil
	}
	if b.begun < started && !keep(stepBegin) {
		b.begun, b.done = started, started
	}
	if b.begun < started {
		t, err := b.Begin(0, 0, false)
		if err != nil {
			return err
		}
		b.begun, b.ticket = started, t
	}
	if b.done == b.begun {
		return nil
	}
	if !keep(stepDone) {
		b.done = b.begun
		return nil
	}
	ok, err := b.Done(b.ticket)
	if ok && err == nil {
		b.done = b.begun
	}
	return err
}

// wait spins until flush number n is done, or somebody else gives commands: waiting for him, who may be descheduled,
// would make 64 goroutines as slow as his processor's other work. It is false if a unit fails.
//
//gommu:nosleep
func (f *flusher) wait(n uint64) bool {
	for i := 0; f.done.Load() < n; i++ {
		if i == spins || f.failed.Load() {
			return false
		}
		if !f.kick(n) {
			return true
		}
	}
	return true
}

// forget has all units forget the range of a burst, and spins until they have. It says whether
// all did.
//
//gommu:nosleep
func (f *flusher) forget(what *burst, leavesOnly bool) bool {
	begin, ok := probe.Begin(probe.Flush), true
	for _, b := range *f.bindings.Load() {
		if err := b.forget(what.first, what.last-what.first+1, leavesOnly); err != nil && f.bound(b) {
			f.failed.Store(true)
			ok = false
		}
	}
	if begin != 0 {
		f.subject.tellFlush(begin, uint64(what.count), what.bytes, ok)
	}
	return ok
}

// bound says whether b is one of the domain's bindings still: what is detached has nothing cached.
//
//gommu:nosleep
func (f *flusher) bound(b *bound) bool {
	for _, x := range *f.bindings.Load() {
		if x == b {
			return true
		}
	}
	return false
}

//gommu:nosleep
func (b *bound) forget(iova, size uint64, leavesOnly bool) error {
	t, err := b.Begin(iova, size, leavesOnly)
	for i := 0; err == ErrBusy && i < spins; i++ {
		t, err = b.Begin(iova, size, leavesOnly)
	}
	if err != nil {
		return err
	}
	for range spins {
		if ok, err := b.Done(t); ok || err != nil {
			return err
		}
	}
	return ErrFlush
}

// publish tells all units of a map. It says whether all were told.
//
//gommu:nosleep
func (f *flusher) publish(iova, size uint64) bool {
	ok := true
	if !keep(stepPublish) {
		return true
	}
	for _, b := range *f.bindings.Load() {
		err := b.Publish(iova, size)
		for i := 1; err != nil && i < publishTries && f.bound(b); i++ {
			err = b.Publish(iova, size)
		}
		if err != nil && f.bound(b) {
			f.failed.Store(true)
			ok = false
		}
	}
	return ok
}

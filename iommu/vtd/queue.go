package vtd

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"gommu/pagetable"
)

// A queue is the invalidation queue (section 6.5.2): one page of descriptors,
// 256 of 16 bytes or, on units that know scalable mode, 128 of 32. Each
// submission is some descriptors and a wait descriptor that makes the unit
// write a number to memory when all before it is done. Several may be in the
// queue: those of Begin, and one that somebody waits for. Each wait holds back
// what follows (its fence flag): otherwise the unit need only have done what is behind
// the wait before it, and a number would say nothing of earlier ones (section 6.5.2.12).
//
// Hardware always snoops when it fetches descriptors and writes statuses, also
// where ECAP.C is 0 (section 11.4.3, ECAP.C), so nothing is flushed here.
type queue struct {
	u           *Unit
	frame       pagetable.Frame
	ring        *[512]uint64
	statusFrame pagetable.Frame
	status      *[512]uint64 // the unit writes the first 4 bytes
	words       int          // of a descriptor: 2 or 4
	unsure      bool         // a submission that somebody waited for was given up and may be in the queue still; of who holds Unit.mu

	// Of who has the turn.
	stored uint64                 // descriptors, since the queue is on
	ends   [maxDescriptors]uint64 // what stored was after a submission, by its number
	begun  uint64                 // number of the last submission that nobody waits for here
}

// Fields of IQA_REG (11.4.9.3), and of IQH and IQT: the offset in bytes of a
// descriptor.
const (
	queueWide = 1 << 11 // DW: descriptors of 32 bytes
	queueHead = 0x7fff0
)

//gommu:nosleep
func (q *queue) length() int { return len(q.ring) / q.words }

// tail is the index of the next free descriptor.
//
//gommu:nosleep
func (q *queue) tail() int { return int(q.stored % uint64(q.length())) }

// room is how many descriptors can be stored: all that the unit's word does not
// say it is done with are taken, and one stays free.
//
//gommu:nosleep
func (q *queue) room() int {
	return q.length() - 1 - int(q.stored-q.ends[q.confirm()%maxDescriptors])
}

// reached says whether the unit has come to a submission.
//
//gommu:nosleep
func (q *queue) reached(n uint64) bool {
	return int32(uint32(atomic.LoadUint64(&q.status[0]))-uint32(n)) >= 0
}

// confirm notes how far the unit has come.
//
//gommu:nosleep
func (q *queue) confirm() uint64 {
	c := q.u.confirmed.Load()
	if ahead := uint32(atomic.LoadUint64(&q.status[0])) - uint32(c); ahead != 0 && uint64(ahead) <= q.u.number-c {
		c += uint64(ahead)
		q.u.confirmed.Store(c)
	}
	return c
}

// run submits the requests, as many at a time as the queue holds.
func (q *queue) run(ctx context.Context, requests []request) error {
	var errs []error
	for len(requests) > 0 {
		n := min(len(requests), q.length()-2) // the wait, and one that stays free
		if err := q.submit(ctx, requests[:n]); err != nil {
			errs = append(errs, err)
			if q.unsure {
				break
			}
		}
		requests = requests[n:]
	}
	return errors.Join(errs...)
}

// enable gives the unit the empty queue and switches it on. The tail must be 0
// before (11.4.9.2); the head becomes 0. A queue that could not be switched off
// before is first, for which its errors must still stand; then they are cleared.
func (q *queue) enable(ctx context.Context) error {
	q.u.turn.take()
	defer q.u.turn.leave()
	if err := q.disable(ctx); err != nil {
		return err
	}
	q.u.confirmed.Store(q.u.number)
	q.stored, q.unsure = 0, false
	q.ends[q.u.number%maxDescriptors] = 0
	address := q.frame.Bus // one page
	if q.words == 4 {
		address |= queueWide
	}
	q.u.regs.Write32(regFSTS, faultInvalidations)
	q.u.regs.Write64(regIQT, 0)
	q.u.regs.Write64(regIQA, address)
	if err := q.u.command(ctx, globalQIE, true, globalQIE); err != nil {
		return fmt.Errorf("enable invalidation queue: %w", err)
	}
	return nil
}

// disable switches the queue off. It must be empty and have ended with a wait,
// which every submission does.
func (q *queue) disable(ctx context.Context) error {
	q.u.turn.take()
	defer q.u.turn.leave()
	if q.u.regs.Read32(regGSTS)&globalQIE != 0 {
		err := q.settled(ctx)
		if err == nil {
			err = q.empty(ctx)
		}
		if err == nil {
			err = q.fetched(ctx)
		}
		if err != nil {
			return fmt.Errorf("disable invalidation queue: %w", err)
		}
	}
	if err := q.u.command(ctx, globalQIE, false, 0); err != nil {
		return fmt.Errorf("disable invalidation queue: %w", err)
	}
	return nil
}

// fetched waits until the unit has come to the end of the queue.
func (q *queue) fetched(ctx context.Context) error {
	p := q.u.poll(ctx)
	stop, err := q.drained(&p)
	if stop != nil {
		return stop
	}
	return err
}

// drained waits until the unit has fetched everything, or stops.
func (q *queue) drained(p *poll) (*QueueError, error) {
	for {
		head := q.u.regs.Read64(regIQH)
		if head == gone64 {
			return nil, ErrGone
		}
		if q.index(head) == q.tail() {
			return nil, nil
		}
		fault := q.u.regs.Read32(regFSTS)
		if fault == gone32 {
			return nil, ErrGone
		}
		if fault&faultInvalidations != 0 {
			return q.failure(fault)
		}
		if err := p.pause(); err != nil {
			return nil, fmt.Errorf("head of the queue is %d, waiting for %d: %w", q.index(head), q.tail(), err)
		}
	}
}

// submit runs requests that fit into the queue and waits until they are done. It
// has the turn only while it stores them, unless the queue is full or fails.
func (q *queue) submit(ctx context.Context, requests []request) error {
	if err := q.settled(ctx); err != nil {
		return err
	}
	start, number, err := q.enter(ctx, requests)
	if err != nil || !keep(waitDone) {
		return err
	}
	return q.complete(ctx, requests, start, number)
}

// enter stores requests as soon as there is room, and says where and by which
// number.
func (q *queue) enter(ctx context.Context, requests []request) (start int, number uint64, err error) {
	q.u.turn.take()
	defer q.u.turn.leave()
	if q.room() < len(requests)+1 {
		if err := q.empty(ctx); err != nil {
			return 0, 0, err
		}
	}
	start = q.tail()
	return start, q.store(requests), nil
}

// empty waits, with the turn, until all that is in the queue is done.
func (q *queue) empty(ctx context.Context) error {
	if q.reached(q.u.number) {
		return nil
	}
	return q.complete(ctx, nil, q.tail(), q.u.number)
}

// store puts requests that somebody waits for into the queue.
func (q *queue) store(requests []request) (number uint64) {
	for i := range requests {
		q.append(q.descriptor(&requests[i]))
	}
	q.unsure = true
	return q.submitted(len(requests))
}

// submitted puts a wait behind what was stored and tells the unit.
//
//gommu:nosleep
func (q *queue) submitted(requests int) (number uint64) {
	u := q.u
	u.number++
	q.append(q.wait(u.number))
	q.ends[u.number%maxDescriptors] = q.stored
	u.stats.Submissions++
	u.stats.Descriptors += uint64(requests)
	q.doorbell()
	return u.number
}

// append stores a descriptor at the tail.
//
//gommu:nosleep
func (q *queue) append(d descriptor) {
	q.put(q.tail(), d)
	q.stored++
}

// put stores a descriptor. The upper half of a wide one is 0 and was never
// anything else.
//
//gommu:nosleep
func (q *queue) put(i int, d descriptor) {
	for j := range d {
		atomic.StoreUint64(&q.ring[q.words*i+j], d[j])
	}
}

// busy says that what was given up may be in the queue still: its errors must stand.
func (q *queue) busy() bool { return q != nil && q.unsure }

// index is the index that IQH or IQT holds.
func (q *queue) index(register uint64) int {
	return int(register & queueHead / uint64(8*q.words) % uint64(q.length()))
}

// doorbell tells the unit where the queue ends now.
//
//gommu:nosleep
func (q *queue) doorbell() { q.u.regs.Write64(regIQT, uint64(q.tail()*q.words*8)) }

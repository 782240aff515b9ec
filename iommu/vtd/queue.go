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
// write a number to memory when all before it is done; run returns then, so the
// queue is empty between submissions.
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
	tail        int          // index of the next free descriptor
	number      uint32       // of the last submission
	unsure      bool         // the last submission failed and may be in the queue still
}

// Fields of IQA_REG (11.4.9.3), and of IQH and IQT: the offset in bytes of a
// descriptor.
const (
	queueWide = 1 << 11 // DW: descriptors of 32 bytes
	queueHead = 0x7fff0
)

func (q *queue) length() int { return len(q.ring) / q.words }

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
	if err := q.disable(ctx); err != nil {
		return err
	}
	q.tail, q.unsure = 0, false
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
	if q.u.regs.Read32(regGSTS)&globalQIE != 0 {
		err := q.settled(ctx)
		if err == nil {
			p := q.u.poll(ctx)
			err = q.drained(&p)
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

// drained waits until the unit has fetched everything.
func (q *queue) drained(p *poll) error {
	for {
		head := q.u.regs.Read64(regIQH)
		if head == gone64 {
			return ErrGone
		}
		if q.index(head) == q.tail {
			return nil
		}
		if err := p.pause(); err != nil {
			return fmt.Errorf("head of the queue is %d, waiting for %d: %w", q.index(head), q.tail, err)
		}
	}
}

// submit runs requests that fit into the queue and waits until they are done.
func (q *queue) submit(ctx context.Context, requests []request) error {
	if err := q.settled(ctx); err != nil {
		return err
	}
	start := q.tail
	q.store(requests)
	if !keep(waitDone) {
		return nil
	}
	return q.complete(ctx, requests, start)
}

// store puts requests and a wait for them into the queue and tells the unit.
func (q *queue) store(requests []request) {
	q.number++
	for i := range requests {
		q.append(q.descriptor(&requests[i]))
	}
	q.append(q.wait())
	q.unsure = true
	q.u.stats.Submissions++
	q.u.stats.Descriptors += uint64(len(requests))
	q.doorbell()
}

// append stores a descriptor at the tail.
func (q *queue) append(d descriptor) {
	q.put(q.tail, d)
	q.tail = (q.tail + 1) % q.length()
}

func (q *queue) put(i int, d descriptor) {
	for j := range q.words {
		v := uint64(0)
		if j < len(d) {
			v = d[j]
		}
		atomic.StoreUint64(&q.ring[q.words*i+j], v)
	}
}

// busy says that what was given up may be in the queue still: its errors must stand.
func (q *queue) busy() bool { return q != nil && q.unsure }

// index is the index that IQH or IQT holds.
func (q *queue) index(register uint64) int {
	return int(register & queueHead / uint64(8*q.words) % uint64(q.length()))
}

// doorbell tells the unit where the queue ends now.
func (q *queue) doorbell() { q.u.regs.Write64(regIQT, uint64(q.tail*q.words*8)) }

package vtd

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"gommu/pagetable"
)

// A queue is the invalidation queue (section 6.5.2): one page of 256
// descriptors of 16 bytes. Each submission is one descriptor and a wait
// descriptor that makes the unit write a number to memory when all before it is
// done; submit returns then, so the queue is empty between submissions.
//
// Hardware always snoops when it fetches descriptors and writes statuses, also
// where ECAP.C is 0 (section 11.4.3, ECAP.C), so nothing is flushed here.
type queue struct {
	u           *Unit
	frame       pagetable.Frame
	ring        *[512]uint64
	statusFrame pagetable.Frame
	status      *[512]uint64 // the unit writes the first 4 bytes
	tail        int          // index of the next free descriptor
	number      uint32       // of the last submission
	unsure      bool         // the last submission failed and may be in the queue still
}

// Descriptors (section 6.5.2): the type is in bits 3:0, the granularity in 5:4.
const (
	queueLength = 256

	typeContext = 1
	typeIOTLB   = 2
	typeWait    = 5

	descGranularity   = 4
	descDrain         = 6
	descDomain        = 16
	descContextSource = 32
	waitStatusWrite   = 1 << 5 // never together with the interrupt flag, bit 4: it ends some versions of QEMU
	waitStatusData    = 32

	queuePointer = 4 // IQH and IQT hold the index from this bit on
)

func (q *queue) context(ctx context.Context, g granularity, domainID, source uint16) error {
	low := typeContext | uint64(g)<<descGranularity | uint64(domainID)<<descDomain | uint64(source)<<descContextSource
	if err := q.submit(ctx, [2]uint64{low, 0}); err != nil {
		return fmt.Errorf("invalidate contexts: %w", err)
	}
	return nil
}

func (q *queue) iotlb(ctx context.Context, g granularity, domainID uint16, iova uint64, mask int) error {
	low := typeIOTLB | uint64(g)<<descGranularity | q.u.drain()<<descDrain | uint64(domainID)<<descDomain
	if err := q.submit(ctx, [2]uint64{low, iova | uint64(mask)}); err != nil {
		return fmt.Errorf("invalidate IOTLB: %w", err)
	}
	return nil
}

// enable gives the unit the empty queue and switches it on. The tail must be 0
// before (11.4.9.2); the head becomes 0. A queue that could not be switched off
// before is first, for which its errors must still stand; then they are cleared.
func (q *queue) enable(ctx context.Context) error {
	if err := q.disable(ctx); err != nil {
		return err
	}
	q.tail, q.unsure = 0, false
	q.u.regs.Write32(regFSTS, faultInvalidations)
	q.u.regs.Write64(regIQT, 0)
	q.u.regs.Write64(regIQA, q.frame.Bus) // 128-bit descriptors, one page
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
			err = q.drained(ctx)
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

// settled waits for a submission that was given up, whose status write may still
// come: nothing may be overwritten or taken away before. If the unit has stopped
// at it since, it is made to go on; the failure was reported when it was given up.
func (q *queue) settled(ctx context.Context) error {
	if !q.unsure {
		return nil
	}
	err := q.finished(ctx)
	if failed, ok := errors.AsType[*QueueError](err); ok {
		err = q.recover(ctx, failed)
	}
	if err == nil {
		q.unsure = false
	}
	return err
}

// drained waits until the unit has fetched everything.
func (q *queue) drained(ctx context.Context) error {
	p := q.u.poll(ctx)
	for {
		head := q.u.regs.Read64(regIQH)
		if head == gone64 {
			return ErrGone
		}
		if int(head>>queuePointer) == q.tail {
			return nil
		}
		if err := p.pause(); err != nil {
			return fmt.Errorf("head of the queue is %d, waiting for %d: %w", head>>queuePointer, q.tail, err)
		}
	}
}

// submit runs one descriptor and waits until it is done.
func (q *queue) submit(ctx context.Context, d [2]uint64) error {
	if err := q.settled(ctx); err != nil {
		return err
	}
	q.number++
	q.put(q.tail, d)
	q.put((q.tail+1)%queueLength, q.wait())
	q.tail = (q.tail + 2) % queueLength
	q.unsure = true
	q.doorbell()
	err := q.finished(ctx)
	if err == nil {
		q.unsure = false
		return nil
	}
	if failed, ok := errors.AsType[*QueueError](err); ok {
		return errors.Join(err, q.recover(ctx, failed))
	}
	return err
}

// wait is the wait descriptor of the current submission.
func (q *queue) wait() [2]uint64 {
	return [2]uint64{typeWait | waitStatusWrite | uint64(q.number)<<waitStatusData, q.statusFrame.Bus}
}

func (q *queue) put(i int, d [2]uint64) {
	atomic.StoreUint64(&q.ring[2*i], d[0])
	atomic.StoreUint64(&q.ring[2*i+1], d[1])
}

// doorbell tells the unit where the queue ends now.
func (q *queue) doorbell() { q.u.regs.Write64(regIQT, uint64(q.tail)<<queuePointer) }

// finished waits for the unit's status write.
func (q *queue) finished(ctx context.Context) error {
	p := q.u.poll(ctx)
	for uint32(atomic.LoadUint64(&q.status[0])) != q.number {
		fault := q.u.regs.Read32(regFSTS)
		if fault == gone32 {
			return ErrGone
		}
		if fault&faultInvalidations != 0 {
			return q.failure(fault)
		}
		if err := p.pause(); err != nil {
			return fmt.Errorf("status of submission %d was not written: %w", q.number, err)
		}
	}
	return nil
}

// failure describes where the unit stopped.
func (q *queue) failure(fault uint32) error {
	head := q.u.regs.Read64(regIQH)
	if head == gone64 {
		return ErrGone
	}
	i := int(head >> queuePointer % queueLength)
	return &QueueError{
		Queue: fault&faultQueue != 0, Timeout: fault&faultTimeout != 0, Completion: fault&faultCompletion != 0,
		Index:      i,
		Descriptor: [2]uint64{atomic.LoadUint64(&q.ring[2*i]), atomic.LoadUint64(&q.ring[2*i+1])},
	}
}

// recover makes the queue run again after the unit stopped. A bad descriptor,
// which the head is at, becomes a copy of the wait descriptor; then the error is
// cleared and the tail written again, which is what makes some units go on.
func (q *queue) recover(ctx context.Context, e *QueueError) error {
	if e.Queue {
		q.put(e.Index, q.wait())
	}
	q.u.regs.Write32(regFSTS, faultInvalidations)
	q.doorbell()
	if err := q.drained(ctx); err != nil {
		return fmt.Errorf("restart the queue: %w", err)
	}
	q.unsure = false
	return nil
}

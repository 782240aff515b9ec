package vtd

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
)

// A submission is requests in the queue that somebody waits for.
type submission struct {
	requests []request
	start    int    // index in the queue of the first
	bad      []bool // requests not to be submitted again; nil while none is bad
	errs     []error
	filled   [maxDescriptors]bool // what was replaced in the queue
	attempts int
	stops    int
}

// maxDescriptors is how many fit into a queue of one page.
const maxDescriptors = 256

// maxStops bounds how often a unit may stop at one submission: more than once at
// each descriptor is no honest unit.
const maxStops = 2 * maxDescriptors

// maxAttempts bounds how often a submission is repeated whose end a time-out of
// somebody else's took with it.
const maxAttempts = 4

// complete waits until the current submission is done, and makes the unit go on
// when it stops (section 6.5.2.11): all good descriptors are executed, whatever
// happens to the bad ones. The errors of these are returned. The time for all
// together is bounded.
func (q *queue) complete(ctx context.Context, requests []request, start int) error {
	p := q.u.poll(ctx)
	stop, err := q.finished(&p)
	if err == nil && stop == nil {
		q.unsure = false
		return nil
	}
	s := &submission{requests: requests, start: start}
	for err == nil && stop != nil {
		if s.stops++; s.stops > maxStops {
			err = stop
			break
		}
		if err = q.resume(&p, s, stop); err == nil {
			stop, err = q.finished(&p)
		}
	}
	if err == nil {
		q.unsure = false
	}
	return errors.Join(append(s.errs, err)...)
}

// resume makes the unit go on after it stopped. Some units go on only when the
// tail is written again.
func (q *queue) resume(p *poll, s *submission, stop *QueueError) error {
	if stop.Completion {
		q.u.stats.Completions++ // nothing was lost
	}
	if stop.Queue {
		q.u.stats.BadDescriptors++
		if err := q.replace(s, stop); err != nil {
			return err
		}
	}
	q.u.regs.Write32(regFSTS, faultInvalidations)
	q.doorbell()
	if stop.Timeout {
		q.u.stats.Timeouts++
		return q.repeat(p, s, stop)
	}
	return nil
}

// replace puts a harmless wait where the unit found a bad descriptor.
func (q *queue) replace(s *submission, stop *QueueError) error {
	i := stop.Index
	last := (q.tail - 1 + q.length()) % q.length()
	switch {
	case i == q.tail && !s.filled[i]:
		// There is nothing to replace, so it was not the descriptor.
		s.filled[i] = true
		return nil
	case s.filled[i]:
		return fmt.Errorf("the unit stops there again: %w", stop)
	case i == last:
		s.filled[i] = true
		q.put(i, q.wait()) // what it was already
		return nil
	}
	s.filled[i] = true
	q.put(i, q.filler(0))
	s.errs = append(s.errs, stop)
	if k := (i - s.start + q.length()) % q.length(); k < len(s.requests) {
		s.exclude(k)
	}
	return nil
}

func (s *submission) exclude(k int) {
	if s.bad == nil {
		s.bad = make([]bool, len(s.requests))
	}
	s.bad[k] = true
}

// repeat submits again what is in doubt after a device's time-out: that also
// ends the waits that the unit had fetched, and with them the word that what
// came before is done. Invalidations of the silent device's TLB are given up.
func (q *queue) repeat(p *poll, s *submission, stop *QueueError) error {
	if err := q.drained(p); err != nil {
		return fmt.Errorf("restart the queue: %w", err)
	}
	if s.attempts++; s.attempts >= maxAttempts {
		return stop
	}
	if s.silence(stop.Source) || s.silence(anySource) {
		s.errs = append(s.errs, stop)
	}
	var again []request
	for k := range s.requests {
		if s.bad == nil || !s.bad[k] {
			again = append(again, s.requests[k])
		}
	}
	s.requests, s.bad, s.filled = again, nil, [maxDescriptors]bool{}
	s.start = q.tail
	q.store(again)
	return nil
}

// anySource is no requester id.
const anySource = -1

// silence gives up the invalidations of a device's TLB and says whether there
// were any.
func (s *submission) silence(source int) bool {
	found := false
	for k := range s.requests {
		r := &s.requests[k]
		if (r.kind == ofDeviceTLB || r.kind == ofPASIDDeviceTLB) && (source == anySource || int(r.source) == source) {
			s.exclude(k)
			found = true
		}
	}
	return found
}

// finished waits for the unit's status write, or until it stops.
func (q *queue) finished(p *poll) (*QueueError, error) {
	for uint32(atomic.LoadUint64(&q.status[0])) != q.number {
		fault := q.u.regs.Read32(regFSTS)
		if fault == gone32 {
			return nil, ErrGone
		}
		if fault&faultInvalidations != 0 {
			return q.failure(fault)
		}
		if err := p.pause(); err != nil {
			return nil, fmt.Errorf("status of submission %d was not written: %w", q.number, err)
		}
	}
	return nil, nil
}

// failure describes where the unit stopped.
func (q *queue) failure(fault uint32) (*QueueError, error) {
	head := q.u.regs.Read64(regIQH)
	if head == gone64 {
		return nil, ErrGone
	}
	record := q.u.regs.Read64(regIQERCD)
	if record == gone64 {
		return nil, ErrGone
	}
	i := q.index(head)
	e := &QueueError{
		Queue: fault&faultQueue != 0, Timeout: fault&faultTimeout != 0, Completion: fault&faultCompletion != 0,
		Index:      i,
		Descriptor: [2]uint64{atomic.LoadUint64(&q.ring[q.words*i]), atomic.LoadUint64(&q.ring[q.words*i+1])},
		Source:     anySource,
	}
	if e.Queue {
		e.Info = uint8(record & 0xf)
	}
	if source := int(record >> 32 & 0xffff); e.Timeout && source != 0 {
		e.Source = source
	}
	return e, nil
}

// errBusy says that an earlier submission, which was given up, is in the queue.
var errBusy = errors.New("the queue is still busy with what was given up before")

// settled waits for a submission that was given up, whose status write may still
// come: nothing may be overwritten or taken away before. If the unit has stopped
// at it since, it is made to go on; the failure was reported when it was given up.
func (q *queue) settled(ctx context.Context) error {
	if !q.unsure {
		return nil
	}
	err := q.complete(ctx, nil, q.tail)
	if q.unsure {
		return errors.Join(errBusy, err)
	}
	return nil
}

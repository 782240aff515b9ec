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
	number   uint64
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

// complete waits until a submission is done, and makes the unit go on when it
// stops (section 6.5.2.11): all good descriptors are executed, whatever happens to
// the bad ones. The errors of these are returned; flushes that Begin has begun are
// doubted then. The time for all together is bounded.
func (q *queue) complete(ctx context.Context, requests []request, start int, number uint64) error {
	p := q.u.poll(ctx)
	stop, err := q.finished(&p, number)
	if err == nil && stop == nil {
		q.unsure = false
		return nil
	}
	if err != nil {
		return err
	}
	q.u.turn.take()
	defer q.u.turn.leave()
	stop, err = q.finished(&p, number) // Done may have made it go on
	s := &submission{requests: requests, start: start, number: number}
	for err == nil && stop != nil {
		if err = q.resume(&p, s, stop); err == nil {
			stop, err = q.finished(&p, s.number)
		}
	}
	if err == nil {
		q.unsure = false
	}
	return errors.Join(append(s.errs, err)...)
}

// resume makes the unit go on after it stopped. After a time-out it does so until
// the queue is empty, for the unit may stop again at what others have told it, and
// then what is in doubt is told again.
func (q *queue) resume(p *poll, s *submission, stop *QueueError) (err error) {
	timedOut := stop
	for stop != nil && err == nil {
		if s.stops++; s.stops > maxStops {
			return stop
		}
		if err = q.release(s, stop); err != nil {
			return err
		}
		if stop.Timeout {
			timedOut = stop
		}
		if !timedOut.Timeout {
			return nil
		}
		if stop, err = q.drained(p); err != nil {
			return fmt.Errorf("restart the queue: %w", err)
		}
	}
	return q.repeat(s, timedOut)
}

// release lets the unit go on from one stop. Some units go on only when the tail
// is written again.
func (q *queue) release(s *submission, stop *QueueError) error {
	if stop.Timeout || stop.Queue && !q.owns(s, stop.Index) {
		q.doubtFlushes()
	}
	if stop.Completion {
		q.u.stats.Completions++ // nothing was lost
	}
	if stop.Queue {
		q.u.stats.BadDescriptors++
		if err := q.replace(s, stop); err != nil {
			return err
		}
	}
	if stop.Timeout {
		q.u.stats.Timeouts++
		if s.silence(stop.Source) {
			s.errs = append(s.errs, stop)
		}
	}
	q.u.regs.Write32(regFSTS, faultInvalidations)
	q.doorbell()
	return nil
}

// owns says whether a descriptor is one of a submission's, but for its wait.
func (q *queue) owns(s *submission, i int) bool {
	return (i-s.start+q.length())%q.length() < len(s.requests)
}

// doubtFlushes doubts what Begin has told and is not done.
func (q *queue) doubtFlushes() {
	if c := q.confirm(); q.begun > c {
		q.u.doubt(c + 1)
	}
}

// waitAt is the number of the submission whose wait is at an index.
func (q *queue) waitAt(i int) (number uint64, ok bool) {
	for n := q.u.number; n > q.u.confirmed.Load(); n-- {
		if int((q.ends[n%maxDescriptors]-1)%uint64(q.length())) == i {
			return n, true
		}
	}
	return 0, false
}

// replace puts a harmless wait where the unit found a bad descriptor.
func (q *queue) replace(s *submission, stop *QueueError) error {
	i := stop.Index
	number, isWait := q.waitAt(i)
	switch {
	case i == q.tail() && !s.filled[i]:
		// There is nothing to replace, so it was not the descriptor.
		s.filled[i] = true
		return nil
	case s.filled[i]:
		return fmt.Errorf("the unit stops there again: %w", stop)
	case isWait:
		s.filled[i] = true
		q.put(i, q.wait(number)) // what it was already
		return nil
	}
	s.filled[i] = true
	q.put(i, q.filler(0))
	if q.owns(s, i) {
		s.errs = append(s.errs, stop)
		s.exclude((i - s.start + q.length()) % q.length())
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
// came before is done. Invalidations of the silent device's TLB are given up; of all
// if the unit named none of them.
func (q *queue) repeat(s *submission, stop *QueueError) error {
	if s.attempts++; s.attempts >= maxAttempts {
		return stop
	}
	if s.bad == nil && s.silence(anySource) {
		s.errs = append(s.errs, stop)
	}
	var again []request
	for k := range s.requests {
		if s.bad == nil || !s.bad[k] {
			again = append(again, s.requests[k])
		}
	}
	s.requests, s.bad, s.filled = again, nil, [maxDescriptors]bool{}
	s.start = q.tail()
	s.number = q.store(again)
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
func (q *queue) finished(p *poll, number uint64) (*QueueError, error) {
	for !q.reached(number) {
		fault := q.u.regs.Read32(regFSTS)
		if fault == gone32 {
			return nil, ErrGone
		}
		if fault&faultInvalidations != 0 {
			return q.failure(fault)
		}
		if err := p.pause(); err != nil {
			return nil, fmt.Errorf("status of submission %d was not written: %w", number, err)
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
	q.u.turn.take()
	defer q.u.turn.leave()
	err := q.complete(ctx, nil, q.tail(), q.u.number)
	if q.unsure {
		return errors.Join(errBusy, err)
	}
	return nil
}

package iommu

import (
	"context"
	"errors"
	"sync/atomic"

	"gommu/internal/probe"
)

// What tracers can see of a domain, see package internal/probe. A call looks at its beginning whether somebody wants to be told
// of it, and only then at the clock. While somebody traces, Map and Unmap take the general way through the
// domain, without the short cuts of quick.go: so the others pay for one branch and nothing else.

// A subject is what tracers know a domain by.
type subject struct {
	number uint64        // in this process
	source atomic.Uint64 // the requester id of the domain's device, or probe.Several
}

// attached says which devices there are now, by their requester ids.
func (s *subject) attached(sources []uint16) {
	source := uint64(probe.Several)
	if len(sources) == 1 {
		source = uint64(sources[0])
	}
	s.source.Store(source)
}

func sourcesOf(devices []Device) (sources []uint16) {
	for _, d := range devices {
		sources = append(sources, d.Source)
	}
	return sources
}

// tellMap tells of a map that was begun at begin.
//
//gommu:nosleep
func (s *subject) tellMap(begin int64, m Mapping, size uint64, dir Direction, err error) {
	probe.CallMap(s.number, s.source.Load(), m.iova, size, uint64(dir), resultOf(err), probe.Since(begin))
}

// tellUnmap tells of an unmap that was begun at begin.
//
//gommu:nosleep
func (s *subject) tellUnmap(begin int64, m Mapping, dir Direction, err error) {
	s.unmapped(m.iova, m.size, dir, resultOf(err), probe.Since(begin))
}

//gommu:nosleep
func (s *subject) unmapped(iova, size uint64, dir Direction, result, ns uint64) {
	probe.CallUnmap(s.number, s.source.Load(), iova, size, uint64(dir), result, ns)
}

// tellFlush tells of a flush of count mappings in size bytes of whole pages that was begun at begin.
//
//gommu:nosleep
func (s *subject) tellFlush(begin int64, count, size uint64, ok bool) {
	result := uint64(probe.Done)
	if !ok {
		result = probe.Failed
	}
	probe.CallFlush(s.number, s.source.Load(), count, size, result, probe.Since(begin))
}

// blamed are the errors of callers that got it wrong.
var blamed = []error{
	ErrNotRegistered, ErrRegistered, ErrZeroSize, ErrRange, ErrTooLarge, ErrMask, ErrDirection, ErrNotMapped, ErrPart, ErrMapped,
	ErrOverlap, ErrBounce, ErrPieces, ErrSegment, ErrUnsupported, ErrOptions, ErrClosed,
}

// resultOf is an error as tracers are told it.
//
//gommu:nosleep
func resultOf(err error) uint64 {
	switch {
	case err == nil:
		return probe.Done
	case is(err, ErrEmpty), is(err, context.Canceled), is(err, context.DeadlineExceeded):
		return probe.Dry
	}
	for _, b := range blamed {
		if is(err, b) {
			return probe.Refused
		}
	}
	return probe.Failed
}

//gommu:nosleep
func is(err, target error) bool {
	return errors.Is(err, target) //gommu:trust asks errors for their methods, for which the runtime takes a lock once a type
}

// mapTraced is Map while somebody traces.
//
//gommu:nosleep
func (d *Domain) mapTraced(mem []byte, dir Direction) (Mapping, error) {
	begin := probe.Begin(probe.Map)
	m, err := d.mapAny(mem, dir)
	if begin != 0 {
		d.subject.tellMap(begin, m, uint64(len(mem)), dir, err)
	}
	return m, err
}

// unmapTraced is Unmap while somebody traces.
//
//gommu:nosleep
func (d *Domain) unmapTraced(m Mapping) error {
	begin, dir := probe.Begin(probe.Unmap), Direction(0)
	if begin == 0 {
		return d.unmapAny(m)
	}
	if rec := d.lookup(m); rec != nil {
		dir = rec.direction()
	}
	err := d.unmapAny(m)
	d.subject.tellUnmap(begin, m, dir, err)
	return err
}

// listTraced is mapList for a call that a tracer is told of.
//
//gommu:nosleep
func (d *Domain) listTraced(begin int64, ring *Ring, list [][]byte, dir Direction, l ListLimits, out []Piece) (Mapping, int, error) {
	size := uint64(0)
	for _, mem := range list {
		size += uint64(len(mem))
	}
	m, n, err := d.mapList(ring, list, dir, l, out)
	d.subject.tellMap(begin, m, size, dir, err)
	return m, n, err
}

// mapTraced is Map of a ring while somebody traces. Only one goroutine at a time is in a ring, so
// a mark in it is enough to have Map not come here again.
//
//gommu:nosleep
func (r *Ring) mapTraced(mem []byte, dir Direction) (Mapping, error) {
	begin := probe.Begin(probe.Map)
	r.telling = true
	m, err := r.Map(mem, dir)
	r.telling = false
	if begin != 0 {
		r.d.subject.tellMap(begin, m, uint64(len(mem)), dir, err)
	}
	return m, err
}

// unmapTraced is Unmap of a ring for a call that a tracer is told of.
//
//gommu:nosleep
func (r *Ring) unmapTraced(begin int64, m Mapping) error {
	dir := Direction(0)
	rec, err := r.d.claim(m, r.id)
	if err == nil {
		dir = rec.direction()
		err = r.d.remove(rec)
	}
	r.d.subject.tellUnmap(begin, m, dir, err)
	return err
}

// tellTogether tells of the mappings of a burst, which were unmapped by one call, of whose time each has the same share.
//
//gommu:nosleep
func (d *Domain) tellTogether(begin int64, b *burst, ok bool) {
	result := uint64(probe.Done)
	if !ok {
		result = probe.Failed
	}
	ns := probe.Since(begin) / uint64(b.count)
	for n := b.head; n != 0; n = d.records[n].next {
		rec := &d.records[n]
		d.subject.unmapped(rec.iova.get(), rec.size.get(), rec.direction(), result, ns)
	}
}

// A cover is what flushes are on their way for, as far as they are traced. A record that is stamped with n waits for flush n+1: that
// one, or the one before it, is the one under way, so two counts are enough. What is added too late for
// its flush is counted with the one after the next: nothing is missed, and nothing counted twice.
type cover [2]struct{ count, bytes atomic.Uint64 }

//gommu:nosleep
func (c *cover) add(flush uint64, count, bytes uint64) {
	c[flush&1].count.Add(count)
	c[flush&1].bytes.Add(bytes)
}

// take is what flush number n was for.
//
//gommu:nosleep
func (c *cover) take(n uint64) (count, bytes uint64) {
	w := &c[n&1]
	if w.count.Load() == 0 {
		return 0, 0
	}
	return w.count.Swap(0), w.bytes.Swap(0)
}

// coverList adds a list that was taken from others, who have not said how long it is, to what waits for a flush.
//
//gommu:nosleep
func (d *Domain) coverList(list uint32, flush uint64) {
	if !probe.On(probe.Flush) {
		return
	}
	count, bytes := uint64(0), uint64(0)
	for n := list; n != 0; n = d.records[n].next {
		count++
		bytes += d.records[n].win.Size
	}
	d.flusher.cover.add(flush, count, bytes)
}

package iommu_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"gommu/iommu"
	"gommu/iommu/model"
)

// A machine runs random calls on a domain, beside what should be true.
type machine struct {
	*rig
	strict bool
	ring   *iommu.Ring
	part   *iommu.Region // registered and closed now and then
	live   []entry
	gone   []entry
	wrong  []string
}

// An entry is a mapping that was made.
type entry struct {
	m       iommu.Mapping
	mem     [][]byte
	pieces  []iommu.Piece
	dir     iommu.Direction
	ring    bool
	part    bool // of the region part
	flushed bool
}

const (
	partPages = 64 // of the region that comes and goes: the last ones
	maxLive   = 40
)

// newMachine makes a domain in which all data but the last pages is registered.
func newMachine(r *rig, s setting, o iommu.Options) (*machine, error) {
	m := &machine{rig: r, strict: o.Flush.Policy == iommu.Strict}
	o.MaxMappings, o.Check = 1024, true
	ctx := context.Background()
	var err error
	if r.d, err = iommu.New(ctx, r.mem, r.tables(s.stage), o); err != nil {
		return nil, err
	}
	for i := 0; i < len(r.mem.mem); i += 8 {
		binary.LittleEndian.PutUint64(r.mem.mem[i:], uint64(i)*0x9e3779b97f4a7c15)
	}
	_, err = r.d.Register(ctx, r.mem.mem[:len(r.mem.mem)-partPages*page], iommu.Bidirectional)
	if err != nil {
		return nil, err
	}
	r.gate = &gate{Unit: r.u}
	if err := r.d.Attach(iommu.Device{Source: rigSource, Unit: r.gate}); err != nil {
		return nil, err
	}
	m.ring, err = r.d.NewRing(ctx, iommu.RingOptions{Size: 2 << 20, Burst: 12})
	return m, err
}

func (m *machine) fail(format string, args ...any) {
	m.wrong = append(m.wrong, fmt.Sprintf(format, args...))
}

// step makes the call that x says, and looks at some of what the device reaches.
func (m *machine) step(x uint64) {
	rng := rand.New(rand.NewPCG(x, x>>7))
	switch op := x % 32; {
	case op < 10:
		m.add(rng, false)
	case op < 14:
		m.addList(rng)
	case op < 17:
		m.add(rng, true)
	case op < 27:
		m.remove(rng)
	case op == 27:
		m.flushAll()
	case op == 28 && rng.IntN(2) == 0:
		m.changeRing()
	case op == 28:
		if err := m.ring.Flush(); err == nil {
			m.flushed(func(e *entry) bool { return e.ring })
		} else if !errors.Is(err, iommu.ErrFlush) {
			m.fail("ring flush: %v", err)
		}
	case op == 29:
		m.changePart(rng)
	case op == 30:
		m.large(rng)
	default:
		m.gate.set(func(g *gate) {
			if rng.IntN(2) == 0 {
				g.failAt = g.begins + 1 + rng.IntN(3)
			} else {
				g.doneAt = g.dones + 1 + rng.IntN(3)
			}
		})
	}
	m.look(rng)
}

// memory picks some that is registered, if it can.
func (m *machine) memory(rng *rand.Rand) (mem []byte, part bool) {
	total := len(m.mem.mem)
	first := 0
	if m.part != nil && rng.IntN(3) == 0 {
		first, part = total-partPages*page, true
	} else {
		total -= partPages * page
	}
	n := 1 + rng.IntN(3*page)
	off := first + rng.IntN(total-first-n)
	if rng.IntN(2) == 0 {
		off &^= page - 1
	}
	return m.mem.mem[off:][:n], part
}

func (m *machine) add(rng *rand.Rand, ring bool) {
	if len(m.live) >= maxLive {
		return
	}
	mem, part := m.memory(rng)
	dir := iommu.Direction(1 + rng.IntN(3))
	do := m.d.Map
	if ring {
		do = m.ring.Map
	}
	x, err := do(mem, dir)
	if !m.made(err) {
		return
	}
	m.enter(entry{m: x, mem: [][]byte{mem}, pieces: []iommu.Piece{{IOVA: x.IOVA(), Size: x.Size()}}, dir: dir, ring: ring, part: part})
}

// made says whether err is nil, and finds fault with what it must not be.
func (m *machine) made(err error) bool {
	switch {
	case errors.Is(err, iommu.ErrFlush):
		m.gone = nil // the device may reach any window that was free
	case err != nil && !errors.Is(err, iommu.ErrEmpty):
		m.fail("map: %v", err)
	}
	return err == nil
}

// enter makes an entry live. Where it is, nothing else is gone any more.
func (m *machine) enter(e entry) {
	m.live = append(m.live, e)
	m.gone = slices.DeleteFunc(m.gone, func(g entry) bool {
		return slices.ContainsFunc(g.pieces, func(p iommu.Piece) bool { return e.covers(p.IOVA, p.Size) })
	})
}

// covers says whether size bytes at iova touch the pages of the entry.
func (e *entry) covers(iova, size uint64) bool {
	return slices.ContainsFunc(e.pieces, func(p iommu.Piece) bool {
		return (iova+size-1)>>12 >= p.IOVA>>12 && iova>>12 <= (p.IOVA+p.Size-1)>>12
	})
}

func (m *machine) addList(rng *rand.Rand) {
	if len(m.live) >= maxLive {
		return
	}
	e := entry{dir: iommu.Bidirectional, ring: rng.IntN(3) == 0}
	for range 1 + rng.IntN(6) {
		mem, part := m.memory(rng)
		e.mem, e.part = append(e.mem, mem), e.part || part
	}
	do := m.d.MapSG
	if e.ring {
		do = m.ring.MapSG
	}
	out := make([]iommu.Piece, 32)
	x, n, err := do(e.mem, e.dir, iommu.ListLimits{MaxPiece: page + 1}, out)
	if m.made(err) {
		e.m, e.pieces = x, out[:n]
		m.enter(e)
	}
}

// large maps so much that tables go out of use with it.
func (m *machine) large(rng *rand.Rand) {
	off := rng.IntN(1<<20) &^ (page - 1)
	mem := m.mem.mem[off:][:2<<20+rng.IntN(1<<20)]
	x, err := m.d.Map(mem, iommu.Bidirectional)
	if m.made(err) {
		m.enter(entry{m: x, mem: [][]byte{mem}, pieces: []iommu.Piece{{IOVA: x.IOVA(), Size: x.Size()}}, dir: iommu.Bidirectional})
	}
}

func (m *machine) remove(rng *rand.Rand) {
	if len(m.live) == 0 {
		return
	}
	m.removeAt(rng.IntN(len(m.live)))
}

func (m *machine) removeAt(i int) {
	e := m.live[i]
	m.live[i] = m.live[len(m.live)-1]
	m.live = m.live[:len(m.live)-1]
	unmap := m.d.Unmap
	if e.ring {
		unmap = m.ring.Unmap
	}
	err := unmap(e.m)
	if err != nil && !errors.Is(err, iommu.ErrFlush) {
		m.fail("unmap: %v", err)
	}
	e.flushed = err == nil && m.strict && !e.ring
	m.gone = append(m.gone, e)
	if err := unmap(e.m); !errors.Is(err, iommu.ErrNotMapped) {
		m.fail("second unmap: %v", err)
	}
}

// flushAll gets the unit going, if it has failed, and flushes.
func (m *machine) flushAll() {
	if err := m.d.Flush(context.Background()); err != nil {
		if !errors.Is(err, iommu.ErrFlush) {
			m.fail("flush: %v", err)
		}
		return
	}
	m.flushed(func(*entry) bool { return true })
}

func (m *machine) flushed(which func(*entry) bool) {
	for i := range m.gone {
		if which(&m.gone[i]) {
			m.gone[i].flushed = true
		}
	}
}

// changeRing closes the ring, if nothing is mapped in it, and makes another one.
func (m *machine) changeRing() {
	if slices.ContainsFunc(m.live, func(e entry) bool { return e.ring }) {
		return
	}
	if err := m.ring.Close(); err != nil {
		if !errors.Is(err, iommu.ErrFlush) {
			m.fail("close of a ring: %v", err)
		}
		return
	}
	m.flushed(func(e *entry) bool { return e.ring })
	var err error
	if m.ring, err = m.d.NewRing(context.Background(), iommu.RingOptions{Size: 2 << 20, Burst: 12}); err != nil {
		m.fail("ring: %v", err)
	}
}

// changePart registers the last pages, or closes their region.
func (m *machine) changePart(rng *rand.Rand) {
	if m.part == nil {
		var err error
		if m.part, err = m.d.Register(context.Background(), m.mem.mem[len(m.mem.mem)-partPages*page:], iommu.Bidirectional); err != nil {
			m.fail("register: %v", err)
		}
		return
	}
	used := false
	for i := len(m.live) - 1; i >= 0; i-- {
		if m.live[i].part && rng.IntN(4) > 0 {
			m.removeAt(i)
		}
	}
	for _, e := range m.live {
		used = used || e.part
	}
	switch err := m.part.Close(); {
	case err == nil && used:
		m.fail("a region was closed of which something is mapped")
	case err == nil:
		m.part = nil
	case errors.Is(err, iommu.ErrMapped), errors.Is(err, iommu.ErrFlush):
	default:
		m.fail("close of a region: %v", err)
	}
}

// covered says whether iova is in the pages of something live.
func (m *machine) covered(iova uint64) bool {
	return slices.ContainsFunc(m.live, func(e entry) bool { return e.covers(iova, 1) })
}

// look has the device read and write some of what it should reach, and of what not any more.
func (m *machine) look(rng *rand.Rand) {
	for range min(2, len(m.live)) {
		m.lookLive(&m.live[rng.IntN(len(m.live))])
	}
	if len(m.live) > 0 {
		m.lookLive(&m.live[len(m.live)-1])
	}
	for range min(3, len(m.gone)) {
		m.lookGone(&m.gone[rng.IntN(len(m.gone))])
	}
	if n := len(m.gone); n > 0 {
		m.lookGone(&m.gone[n-1])
		m.gone = m.gone[max(0, n-60):]
	}
}

func (m *machine) lookLive(e *entry) {
	flat := bytes.Join(e.mem, nil)
	at := 0
	for _, p := range e.pieces {
		n := int(min(p.Size, 64))
		buf := make([]byte, n)
		if e.dir&iommu.ToDevice != 0 {
			if err := m.dev.Read(p.IOVA, buf); err != nil || !bytes.Equal(buf, flat[at:][:n]) {
				m.fail("device reads %x, %v at %#x, want %x", buf, err, p.IOVA, flat[at:][:n])
			}
		} else if err := m.dev.Write(p.IOVA, flat[at:][:n]); err != nil {
			m.fail("device writes to %#x: %v", p.IOVA, err)
		}
		at += int(p.Size)
	}
}

func (m *machine) lookGone(e *entry) {
	flat := bytes.Join(e.mem, nil)
	at := 0
	for _, p := range e.pieces {
		n := int(min(p.Size, 16, page-p.IOVA%page))
		buf := make([]byte, n)
		switch err := m.dev.Read(p.IOVA, buf); {
		case m.covered(p.IOVA), errors.Is(err, model.ErrBlocked):
		case e.flushed:
			m.fail("device reaches %#x, which is unmapped and flushed", p.IOVA)
		case err != nil:
			m.fail("read of %#x: %v", p.IOVA, err)
		case !bytes.Equal(buf, flat[at:][:n]):
			m.fail("device reads other memory at %#x than was mapped there: %x, want %x", p.IOVA, buf, flat[at:][:n])
		}
		at += int(p.Size)
	}
}

// end unmaps all and closes.
func (m *machine) end() {
	for len(m.live) > 0 {
		m.remove(rand.New(rand.NewPCG(1, 2)))
	}
	ctx := context.Background()
	m.gate.set(func(g *gate) { g.failAt, g.doneAt = 0, 0 })
	for _, err := range []error{m.d.Flush(ctx), m.ring.Close(), m.d.Close(ctx)} {
		if err != nil {
			m.fail("at the end: %v", err)
		}
	}
	if v := m.hw.Violations(); len(v) > 0 {
		m.fail("violations: %q", v)
	}
}

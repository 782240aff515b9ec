package conformance

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"

	"gommu/iommu"
)

// pieces are data pages, parts of them, and neighbours.
func (b *bench) pieces() [][]byte {
	return [][]byte{b.at(b.bus(1), page), b.at(b.bus(2), page), b.at(b.bus(9), 2*page), b.at(b.bus(5), page)}
}

// gather has the device copy what out says, piece by piece, to data page 20 and on, and compares.
func (b *bench) gather(s *space, list [][]byte, out []iommu.Piece) {
	var want []byte
	for _, mem := range list {
		rand.Read(mem)
		want = append(want, mem...)
	}
	back := s.mapBytes(b.at(b.bus(20), 16*page), iommu.FromDevice)
	to := uint64(0)
	for _, p := range out {
		for off := uint64(0); off < p.Size; {
			n := min(p.Size-off, 4000)
			b.read(0, p.IOVA+off, int(n))
			b.write(0, back.IOVA()+to, int(n))
			off, to = off+n, to+n
		}
	}
	b.noFaults()
	if to != uint64(len(want)) || !bytes.Equal(b.at(b.bus(20), len(want)), want) {
		b.failf("%d bytes of a list of %d did not arrive as they were", to, len(want))
	}
	s.unmap(back)
}

func dmaList(b *bench) {
	s := b.space(iommu.Options{}, 0)
	list, out := b.pieces(), make([]iommu.Piece, 8)
	m, n, err := s.MapSG(list, iommu.ToDevice, iommu.ListLimits{}, out)
	b.must(err)
	if n != 1 || m.Size() != 5*page {
		b.failf("%d pieces of %v, mapping of %#x bytes: whole pages are merged into one piece", n, out[:n], m.Size())
	}
	b.gather(s, list, out[:n])
	s.unmap(m)
	b.expect(0, out[0].IOVA+4*page, b.bus(5), false, "unmapped")
	b.faults(b.absent(0, out[0].IOVA+4*page, true))
	if _, _, err := s.MapSG(list, iommu.ToDevice, iommu.ListLimits{MaxPiece: page}, out[:2]); !errors.Is(err, iommu.ErrPieces) {
		b.failf("a list that needs more pieces than there is room for: %v", err)
	}
}

func dmaListLimits(b *bench) {
	s := b.space(iommu.Options{}, 0)
	for _, l := range []iommu.ListLimits{{MaxPiece: page}, {MaxPiece: 3000}, {Boundary: page}, {Boundary: 2 * page, MaxPiece: 5000}} {
		list, out := b.pieces(), make([]iommu.Piece, 32)
		list[0] = list[0][100:]
		m, n, err := s.MapSG(list, iommu.ToDevice, l, out)
		b.must(err)
		for _, p := range out[:n] {
			if l.MaxPiece > 0 && p.Size > l.MaxPiece || l.Boundary > 0 && p.IOVA/l.Boundary != (p.IOVA+p.Size-1)/l.Boundary {
				b.failf("limits %+v: piece %+v", l, p)
			}
		}
		b.gather(s, list, out[:n])
		s.unmap(m)
	}
}

func dmaRing(b *bench) {
	s := b.space(iommu.Options{}, 0)
	r, err := s.NewRing(b.ctx, iommu.RingOptions{Size: size2M, Burst: 1000})
	b.must(err)
	for round := range b.rounds(3) {
		var all []iommu.Mapping
		for n := range 8 {
			m, err := r.Map(b.at(b.bus(n), page), iommu.Bidirectional)
			b.must(err)
			if n > 0 && m.IOVA() != all[n-1].IOVA()+page {
				b.failf("round %d: iova %#x follows %#x", round, m.IOVA(), all[n-1].IOVA())
			}
			all = append(all, m)
		}
		for _, n := range []int{0, 7} {
			b.expect(0, all[n].IOVA(), b.bus(n), true, "in the ring")
		}
		for _, m := range all {
			b.must(r.Unmap(m))
		}
		b.must(r.Flush())
		for _, n := range []int{0, 7} {
			b.expect(0, all[n].IOVA(), b.bus(n), false, "after the burst")
			b.faults(b.absent(0, all[n].IOVA(), true))
		}
	}
	b.must(r.Close())
}

func dmaBounce(b *bench) {
	if len(b.rig.Room()) == 0 {
		b.fatalf("the rig has no room for bounce buffers")
	}
	s := b.space(iommu.Options{Bounce: iommu.Bounce{On: true, Low: 1, High: 1, Max: 1}}, 0)
	foreign, back := make([]byte, 3000), make([]byte, 3000)
	for range b.rounds(5) {
		rand.Read(foreign)
		clear(back)
		from, to := s.mapBytes(foreign, iommu.ToDevice), s.mapBytes(back, iommu.FromDevice)
		b.read(0, from.IOVA(), len(foreign))
		b.write(0, to.IOVA(), 1000)
		b.must(s.SyncForCPU(to, 0, 1000))
		if !bytes.Equal(back[:1000], foreign[:1000]) || back[1000] != 0 {
			b.failf("what was synced is not there, or more is")
		}
		b.write(0, to.IOVA(), len(back))
		b.noFaults()
		s.unmap(from, to)
		if !bytes.Equal(back, foreign) {
			b.failf("bytes did not come through the bounce buffers")
		}
		b.write(0, to.IOVA(), 8)
		b.faults(b.absent(0, to.IOVA(), true))
		if !bytes.Equal(back, foreign) {
			b.failf("the device reaches memory after Unmap")
		}
	}
	if _, err := s.Map(make([]byte, 2*size2M), iommu.ToDevice); !errors.Is(err, iommu.ErrBounce) {
		b.failf("more than a buffer holds: %v", err)
	}
}

func dmaMask(b *bench) {
	const mask = 1<<28 - 1
	s := b.space(iommu.Options{Mask: mask}, 0)
	for n := range 200 {
		m := s.mapBytes(b.at(b.bus(n), (1+n%9)*page), iommu.Bidirectional)
		if m.IOVA()+m.Size()-1 > mask {
			b.failf("iova %#x beyond the mask", m.IOVA())
		}
		if n%50 == 0 {
			b.expect(0, m.IOVA(), b.bus(n), true, "mapped")
		}
	}
	b.noFaults()
	narrow := s.device(1)
	narrow.Mask = 1<<20 - 1
	if err := s.Attach(narrow); !errors.Is(err, iommu.ErrMask) {
		b.failf("a device with a smaller mask: %v", err)
	}
	if _, err := s.MapWait(b.ctx, b.at(b.bus(0), page), iommu.Bidirectional, iommu.Place{IOVA: mask + 1, Fixed: true}); !errors.Is(err, iommu.ErrMask) {
		b.failf("a place beyond the mask: %v", err)
	}
}

func dmaWindow32(b *bench) {
	reserved := iommu.IOVARange{Start: 0x8000_0000, Last: 0xbfff_ffff}
	s := b.space(iommu.Options{Mask: 1<<32 - 1, Reserved: []iommu.IOVARange{reserved}, MaxMappings: 8192}, 0)
	for n := range 1500 {
		m := s.mapBytes(b.data.Mem[n%64*page:][:size2M-64*page], iommu.Bidirectional) // 1500 of nearly 2 MiB fill most of it
		first, last := m.IOVA(), m.IOVA()+m.Size()-1
		switch {
		case last >= 1<<32:
			b.fatalf("iova %#x of 32 bits", last)
		case last >= interruptBase && first < interruptEnd:
			b.fatalf("%#x-%#x lies in the interrupt range", first, last)
		case last >= reserved.Start && first <= reserved.Last:
			b.fatalf("%#x-%#x is reserved", first, last)
		}
		if n%500 == 0 {
			b.expect(0, first, b.bus(n%64), true, "mapped")
		}
		if n >= 900 {
			s.unmap(m)
		}
	}
	b.noFaults()
}

func dmaNarrow(b *bench) {
	s := b.space(iommu.Options{}, 0)
	for n := range b.rounds(20) {
		m := s.mapBytes(b.at(b.bus(n), (1+n)*page), iommu.Bidirectional)
		if end := m.IOVA() + m.Size(); end > 1<<39 {
			b.failf("iova %#x of 39 bits", end)
		}
		b.expect(0, m.IOVA(), b.bus(n), true, "mapped")
	}
	b.noFaults()
}

func dmaPlace(b *bench) {
	s := b.space(iommu.Options{}, 0)
	const at = somewhere
	wait := func(p iommu.Place) (iommu.Mapping, error) {
		return s.MapWait(b.ctx, b.at(b.bus(3), 2*page), iommu.Bidirectional, p)
	}
	for range 2 {
		m := s.mapAt(b.at(b.bus(3), 2*page), at)
		b.expect(0, at+page, b.bus(4), true, "mapped")
		if _, err := wait(iommu.Place{IOVA: at + page, Fixed: true}); !errors.Is(err, iommu.ErrOverlap) {
			b.failf("over a mapping: %v", err)
		}
		s.unmap(m)
		b.expect(0, at+page, b.bus(4), false, "unmapped")
		b.faults(b.absent(0, at+page, true))
	}
	for _, p := range []iommu.Place{{Align: 1 << 24}, {Mask: 1<<30 - 1}, {Boundary: 1 << 20, Mask: 1<<32 - 1}} {
		m, err := wait(p)
		b.must(err)
		if p.Align != 0 && m.IOVA()%p.Align != 0 || p.Mask != 0 && m.IOVA()+m.Size()-1 > p.Mask {
			b.failf("place %+v: iova %#x", p, m.IOVA())
		}
		b.expect(0, m.IOVA(), b.bus(3), true, fmt.Sprintf("place %+v", p))
		s.unmap(m)
	}
	b.noFaults()
}

func dmaBuffer(b *bench) {
	s := b.space(iommu.Options{}, 0)
	buf, err := s.Alloc(b.ctx, 16*page, iommu.Bidirectional, iommu.Place{Align: 16 * page})
	b.must(err)
	if buf.IOVA()%(16*page) != 0 || len(buf.Mem) != 16*page || !bytes.Equal(buf.Mem, make([]byte, 16*page)) {
		b.failf("buffer of %d bytes at %#x", len(buf.Mem), buf.IOVA())
	}
	rand.Read(buf.Mem[:1000])
	b.read(0, buf.IOVA(), 1000)
	b.write(0, buf.IOVA()+15*page, 1000)
	b.noFaults()
	if !bytes.Equal(buf.Mem[15*page:][:1000], buf.Mem[:1000]) {
		b.failf("the device does not reach the buffer")
	}
	b.must(s.Free(buf))
	b.write(0, buf.IOVA(), 8)
	b.faults(b.absent(0, buf.IOVA(), true))
}

func dmaClose(b *bench) {
	s := b.space(iommu.Options{}, 0)
	m := s.page(6, iommu.Bidirectional)
	b.expect(0, m.IOVA(), b.bus(6), true, "mapped")
	if live := s.Live(); len(live) != 1 || live[0] != m {
		b.failf("live are %v", live)
	}
	if err := s.region.Close(); !errors.Is(err, iommu.ErrMapped) {
		b.failf("closing a region that is mapped: %v", err)
	}
	b.must(s.Detach(s.device(0)))
	if err := s.Close(b.ctx); !errors.Is(err, iommu.ErrMapped) {
		b.failf("closing with a mapping: %v", err)
	}
	b.expect(0, m.IOVA(), b.bus(6), false, "detached")
	b.must(s.CloseForced(b.ctx))
	if _, err := s.Map(b.at(b.bus(6), page), iommu.ToDevice); !errors.Is(err, iommu.ErrClosed) {
		b.failf("mapping in a closed domain: %v", err)
	}
	b.drain()
}

package iommu_test

import (
	"testing"

	"gommu/iommu"
)

func newRing(t testing.TB, d *iommu.Domain, o iommu.RingOptions) *iommu.Ring {
	t.Helper()
	ring, err := d.NewRing(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { want(t, ring.Close(), nil) })
	return ring
}

// What a ring maps follows each other in IOVA space; one invalidation at the end of the burst makes all
// of it unreachable.
func TestRing(t *testing.T) {
	for _, s := range settings {
		t.Run(s.name, func(t *testing.T) {
			r := newRig(t, s, batched(1<<20))
			ring := newRing(t, r.d, iommu.RingOptions{})
			for burst := range 40 {
				var all []iommu.Mapping
				for i := range 50 {
					mem := r.data(i*2*page, page)
					m, err := ring.Map(mem, iommu.Bidirectional)
					if err != nil {
						t.Fatal(err)
					}
					if n := len(all); n > 0 && m.IOVA() != all[n-1].IOVA()+page && m.IOVA() >= all[n-1].IOVA() {
						t.Fatalf("%#x does not follow %#x", m.IOVA(), all[n-1].IOVA())
					}
					r.copies(m, mem, iommu.Bidirectional, "ring")
					all = append(all, m)
				}
				for i := range all {
					want(t, ring.Unmap(all[(i*7+burst)%len(all)]), nil)
				}
				r.reached(all[0].IOVA())
				before := r.gate.begins
				want(t, ring.Flush(), nil)
				if n := r.gate.begins - before; n != 1 {
					t.Errorf("%d invalidations at the end of a burst, want 1", n)
				}
				for _, m := range all {
					r.blocked(m.IOVA())
				}
			}
		})
	}
}

// A burst that is longer than was said flushes by itself, and a ring that is full flushes what was unmapped.
func TestRingFlushesItself(t *testing.T) {
	r := newRig(t, settings[0], iommu.Options{})
	ring := newRing(t, r.d, iommu.RingOptions{Size: 2 << 20, Burst: 8})
	m, err := ring.Map(r.data(0, page), iommu.Bidirectional)
	want(t, err, nil)
	r.reached(m.IOVA())
	for i := range 8 {
		if i == 7 {
			r.reached(m.IOVA())
		}
		n := m
		if i > 0 {
			n, err = ring.Map(r.data(0, page), iommu.Bidirectional)
			want(t, err, nil)
		}
		want(t, ring.Unmap(n), nil)
	}
	r.blocked(m.IOVA())

	long := newRing(t, r.d, iommu.RingOptions{Size: 2 << 20, Burst: 1 << 20})
	for range 2000 {
		m, err := long.Map(r.data(0, page), iommu.Bidirectional)
		if err != nil {
			t.Fatal(err)
		}
		want(t, long.Unmap(m), nil)
	}
	want(t, long.Flush(), nil)

	var all []iommu.Mapping
	for {
		m, err := long.Map(r.data(0, page), iommu.Bidirectional)
		if err != nil {
			want(t, err, iommu.ErrEmpty)
			break
		}
		all = append(all, m)
	}
	if len(all) != 512 {
		t.Errorf("%d mappings in a ring of 512 pages", len(all))
	}
	want(t, long.Close(), iommu.ErrMapped)
	for _, m := range all {
		want(t, long.Unmap(m), nil)
	}
}

// Only the ring that made it unmaps a mapping.
func TestRingOwns(t *testing.T) {
	r := newRig(t, settings[0], iommu.Options{})
	a, b := newRing(t, r.d, iommu.RingOptions{}), newRing(t, r.d, iommu.RingOptions{})
	m, err := a.Map(r.data(0, page), iommu.Bidirectional)
	want(t, err, nil)
	own := r.mapped(r.data(0, page), iommu.Bidirectional)
	want(t, b.Unmap(m), iommu.ErrNotMapped)
	want(t, r.d.Unmap(m), iommu.ErrNotMapped)
	want(t, a.Unmap(own), iommu.ErrNotMapped)
	want(t, r.d.Close(t.Context()), iommu.ErrMapped)
	want(t, a.Unmap(m), nil)
	want(t, a.Unmap(m), iommu.ErrNotMapped)
	want(t, r.d.Unmap(own), nil)
	want(t, r.d.Close(t.Context()), iommu.ErrMapped) // the rings
	want(t, a.Close(), nil)
	want(t, a.Close(), nil)
	want(t, b.Close(), nil)
	want(t, r.d.Close(t.Context()), nil)
	_, err = r.d.NewRing(t.Context(), iommu.RingOptions{})
	want(t, err, iommu.ErrClosed)
}

// A ring on a unit that fails says so, and goes on when the unit is well.
func TestRingFails(t *testing.T) {
	r := newRig(t, settings[0], iommu.Options{})
	ring := newRing(t, r.d, iommu.RingOptions{})
	m, err := ring.Map(r.data(0, page), iommu.Bidirectional)
	want(t, err, nil)
	r.reached(m.IOVA())
	want(t, ring.Unmap(m), nil)
	r.gate.set(func(g *gate) { g.doneAt, g.stuck = g.dones+1, true })
	want(t, ring.Flush(), iommu.ErrFlush)
	want(t, ring.Close(), iommu.ErrFlush)
	r.gate.set(func(g *gate) { g.stuck = false })
	want(t, r.d.Flush(t.Context()), nil)
	want(t, ring.Flush(), nil)
	r.blocked(m.IOVA())
}

// A ring that is closed takes no mapping away, of whoever it is.
func TestRingClosed(t *testing.T) {
	r := newRig(t, settings[0], iommu.Options{})
	ring := newRing(t, r.d, iommu.RingOptions{})
	want(t, ring.Close(), nil)
	m := r.mapped(r.data(0, page), iommu.Bidirectional)
	want(t, ring.Unmap(m), iommu.ErrClosed)
	r.reached(m.IOVA())
	_, err := ring.Map(r.data(0, page), iommu.Bidirectional)
	want(t, err, iommu.ErrClosed)
	_, _, err = ring.MapSG([][]byte{r.data(0, page)}, iommu.Bidirectional, iommu.ListLimits{}, make([]iommu.Piece, 1))
	want(t, err, iommu.ErrClosed)
	want(t, r.d.Unmap(m), nil)
}

// In a premapped domain too.
func TestRingClosedPremapped(t *testing.T) {
	p := newPre(t, iommu.Options{})
	mem := p.alloc(page)
	p.register(mem, both)
	ring, err := p.d.NewRing(t.Context(), iommu.RingOptions{})
	ok(t, err, ring.Close())
	m := p.domap(mem, both)
	refused(t, "unmap", ring.Unmap(m), iommu.ErrClosed)
	_, err = ring.Map(mem, both)
	refused(t, "map", err, iommu.ErrClosed)
	ok(t, p.d.Unmap(m))
}

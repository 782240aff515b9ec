package iommu_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"gommu/iommu"
)

// A list is one mapping: the device finds its bytes in order in the pieces, which keep the limits.
func TestList(t *testing.T) {
	for _, scatter := range []bool{false, true} {
		for _, s := range settings {
			t.Run(s.name, func(t *testing.T) {
				r := newUnit(t, s)
				r.mem.scatter = scatter
				r.domain(s, batched(64))
				rng := rand.New(rand.NewPCG(1, 2))
				ring := newRing(t, r.d, iommu.RingOptions{})
				for i := range 60 {
					checkList(t, r, rng, nil)
					if i%2 == 0 {
						checkList(t, r, rng, ring)
					}
				}
			})
		}
	}
}

// checkList maps a random list and compares what the device reads and writes with it.
func checkList(t *testing.T, r *rig, rng *rand.Rand, ring *iommu.Ring) {
	t.Helper()
	var list [][]byte
	var flat []byte
	next := 0
	for range 1 + rng.IntN(20) {
		off, n := next+rng.IntN(2*page), 1+rng.IntN(3*page)
		if rng.IntN(2) == 0 { // whole pages, right behind the last or not
			off, n = (off+page-1)/page*page, page*(1+rng.IntN(3))
		}
		mem := r.data(off, n)
		next = (off + n + page - 1) / page * page
		for i := range mem {
			mem[i] = byte(rng.Uint32())
		}
		list, flat = append(list, mem), append(flat, mem...)
	}
	var l iommu.ListLimits
	if rng.IntN(2) == 0 {
		l.MaxPiece = 1 + rng.Uint64N(3*page)
	}
	if rng.IntN(2) == 0 {
		l.Boundary = 1 << (8 + rng.IntN(8))
	}
	mapSG, unmap := r.d.MapSG, r.d.Unmap
	if ring != nil {
		mapSG, unmap = ring.MapSG, ring.Unmap
	}
	out := make([]iommu.Piece, 4000)
	m, n, err := mapSG(list, iommu.Bidirectional, l, out)
	if err != nil {
		t.Fatal(err)
	}
	if m.Size() != uint64(len(flat)) || m.IOVA() != out[0].IOVA {
		t.Errorf("mapping of %d bytes at %#x, want %d at %#x", m.Size(), m.IOVA(), len(flat), out[0].IOVA)
	}
	got := make([]byte, 0, len(flat))
	for _, p := range out[:n] {
		if l.MaxPiece != 0 && p.Size > l.MaxPiece || l.Boundary != 0 && p.IOVA/l.Boundary != (p.IOVA+p.Size-1)/l.Boundary {
			t.Errorf("piece %#x of %#x bytes breaks %+v", p.IOVA, p.Size, l)
		}
		buf := make([]byte, p.Size)
		if err := r.dev.Read(p.IOVA, buf); err != nil {
			t.Fatal(err)
		}
		got = append(got, buf...)
	}
	if !bytes.Equal(got, flat) {
		t.Error("the device reads other bytes than those of the list")
	}
	if l == (iommu.ListLimits{}) {
		runs := 1
		for i := 1; i < len(list); i++ {
			if !ends(list[i-1]) || !begins(list[i]) {
				runs++
			}
		}
		if n != runs {
			t.Errorf("%d pieces, want %d", n, runs)
		}
	}
	if _, _, err := mapSG(list, iommu.Bidirectional, l, out[:n-1]); !errors.Is(err, iommu.ErrPieces) {
		t.Errorf("with room for %d of %d pieces: %v", n-1, n, err)
	}
	want(t, unmap(m), nil)
	want(t, unmap(m), iommu.ErrNotMapped)
}

func begins(mem []byte) bool { return addr(mem)%page == 0 }
func ends(mem []byte) bool   { return (addr(mem)+uintptr(len(mem)))%page == 0 }

// A list over several regions holds all of them until it is unmapped.
func TestListOfRegions(t *testing.T) {
	r := newUnit(t, settings[0])
	d, err := iommu.New(t.Context(), r.mem, r.tables(0), iommu.Options{MaxMappings: 256})
	if err != nil {
		t.Fatal(err)
	}
	r.d = d
	t.Cleanup(func() { want(t, d.CloseForced(context.Background()), nil) })
	want(t, d.Attach(iommu.Device{Source: rigSource, Unit: r.u}), nil)
	var regions []*iommu.Region
	var list [][]byte
	for i := range 5 {
		reg, err := d.Register(t.Context(), r.data(2*i*page, page), iommu.Bidirectional)
		want(t, err, nil)
		regions = append(regions, reg)
		list = append(list, r.data(2*i*page, page), r.data(2*i*page+100, 50))
	}
	out := make([]iommu.Piece, 16)
	m, n, err := d.MapSG(list, iommu.ToDevice, iommu.ListLimits{}, out)
	want(t, err, nil)
	for _, p := range out[:n] {
		r.reached(p.IOVA)
	}
	for _, reg := range regions {
		want(t, reg.Close(), iommu.ErrMapped)
	}
	want(t, d.Unmap(m), nil)
	for _, p := range out[:n] {
		r.blocked(p.IOVA)
	}
	for _, reg := range regions {
		want(t, reg.Close(), nil)
	}
	_, _, err = d.MapSG(list, iommu.ToDevice, iommu.ListLimits{}, out)
	want(t, err, iommu.ErrNotRegistered)
}

// What is wrong with a list is said.
func TestListErrors(t *testing.T) {
	r := newRig(t, settings[0], iommu.Options{})
	out := make([]iommu.Piece, 4)
	one := [][]byte{r.data(0, page)}
	for _, c := range []struct {
		name string
		list [][]byte
		dir  iommu.Direction
		l    iommu.ListLimits
		want error
	}{
		{"empty", nil, iommu.ToDevice, iommu.ListLimits{}, iommu.ErrZeroSize},
		{"empty piece", [][]byte{r.data(0, 1), r.data(0, 0)}, iommu.ToDevice, iommu.ListLimits{}, iommu.ErrZeroSize},
		{"foreign", [][]byte{r.data(0, 1), make([]byte, 8)}, iommu.ToDevice, iommu.ListLimits{}, iommu.ErrNotRegistered},
		{"no direction", one, 0, iommu.ListLimits{}, iommu.ErrDirection},
		{"boundary", one, iommu.ToDevice, iommu.ListLimits{Boundary: 3000}, iommu.ErrSegment},
		{"too many", one, iommu.ToDevice, iommu.ListLimits{MaxPiece: 1000}, iommu.ErrPieces},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, n, err := r.d.MapSG(c.list, c.dir, c.l, out)
			want(t, err, c.want)
			if n != 0 {
				t.Errorf("%d pieces", n)
			}
		})
	}
	_, _, err := r.d.MapSG(one, iommu.ToDevice, iommu.ListLimits{MaxPiece: 1000}, out)
	if err == nil || !strings.Contains(err.Error(), "it needs 5") {
		t.Errorf("%v does not say how many pieces it needs", err)
	}
	if n := len(r.d.Live()); n != 0 {
		t.Errorf("%d mappings are live after refused calls", n)
	}
}

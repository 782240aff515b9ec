package iommu_test

import (
	"testing"

	"gommu/iommu"
)

// None of what must not sleep allocates, with any policy.
func TestAllocations(t *testing.T) {
	for name, o := range map[string]iommu.Options{
		"strict": {}, "batched": {Flush: iommu.Flush{Policy: iommu.Batched, Count: 16}},
		"guard": {Guard: true}, "random": {Random: true},
	} {
		for _, scatter := range []bool{false, true} {
			r := instantRig(t, o, scatter)
			p := newPath(t, r)
			for _, c := range p.calls() {
				if n := testing.AllocsPerRun(500, func() {
					if err := c.do(); err != nil {
						t.Fatalf("%s: %v", c.name, err)
					}
				}); n != 0 {
					t.Errorf("%s, %s: %v allocations", name, c.name, n)
				}
			}
		}
	}
}

// A path is every call that must not sleep, with what it needs.
type path struct {
	d    *iommu.Domain
	ring *iommu.Ring
	mem  [][]byte
	out  []iommu.Mapping
	list []iommu.Piece
}

func newPath(t testing.TB, r *rig) *path {
	p := &path{d: r.d, ring: newRing(t, r.d, iommu.RingOptions{Burst: 16}), out: make([]iommu.Mapping, 16), list: make([]iommu.Piece, 64)}
	for i := range p.out {
		p.mem = append(p.mem, r.data(i*3*page+i, page+1))
	}
	return p
}

type call struct {
	name string
	do   func() error
}

func (p *path) calls() []call {
	return []call{
		{"map and unmap", func() error {
			m, err := p.d.Map(p.mem[0], iommu.Bidirectional)
			if err != nil {
				return err
			}
			return p.d.Unmap(m)
		}},
		{"batches", func() error {
			if err := p.d.MapBatch(p.mem, iommu.ToDevice, p.out); err != nil {
				return err
			}
			return p.d.UnmapBatch(p.out)
		}},
		{"lists", func() error {
			m, _, err := p.d.MapSG(p.mem[:6], iommu.FromDevice, iommu.ListLimits{MaxPiece: page}, p.list)
			if err != nil {
				return err
			}
			return p.d.Unmap(m)
		}},
		{"ring", func() error {
			m, err := p.ring.Map(p.mem[0], iommu.Bidirectional)
			if err != nil {
				return err
			}
			n, _, err := p.ring.MapSG(p.mem, iommu.Bidirectional, iommu.ListLimits{}, p.list)
			if err != nil {
				return err
			}
			if err := p.ring.Unmap(m); err != nil {
				return err
			}
			if err := p.ring.Unmap(n); err != nil {
				return err
			}
			return p.ring.Flush()
		}},
		{"sync", func() error {
			m, err := p.d.Map(p.mem[0], iommu.Bidirectional)
			if err != nil {
				return err
			}
			if err := p.d.SyncForCPU(m, 0, m.Size()); err != nil {
				return err
			}
			if err := p.d.SyncForDevice(m, 0, m.Size()); err != nil {
				return err
			}
			return p.d.Unmap(m)
		}},
	}
}

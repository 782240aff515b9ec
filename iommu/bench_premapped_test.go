package iommu_test

import (
	"testing"

	"gommu/iommu"
)

func BenchmarkPremapped(b *testing.B) {
	p := newPre(b, iommu.Options{})
	mem := p.alloc(2 * slab)
	p.register(mem[:slab], both)
	foreign := mem[slab:]
	list, out := [][]byte{mem[:100], mem[2*page : 3*page], mem[5*page : 6*page]}, make([]iommu.Piece, 4)
	run := func(name string, f func() error) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if err := f(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	run("map", func() error {
		m, err := p.d.Map(mem[page:2*page], both)
		if err != nil {
			return err
		}
		return p.d.Unmap(m)
	})
	run("list", func() error {
		m, _, err := p.d.MapSG(list, both, iommu.ListLimits{}, out)
		if err != nil {
			return err
		}
		return p.d.Unmap(m)
	})
	run("bounce 4 KiB to device", func() error {
		m, err := p.d.Map(foreign[:page], iommu.ToDevice)
		if err != nil {
			return err
		}
		return p.d.Unmap(m)
	})
	b.Run("map parallel", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				m, err := p.d.Map(mem[page:2*page], both)
				if err == nil {
					err = p.d.Unmap(m)
				}
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
}

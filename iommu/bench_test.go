package iommu_test

import (
	"context"
	"sync"
	"testing"

	"gommu/iommu"
	"gommu/pagetable"
)

// instant is a unit that has done at once what it is told: what is left is this package.
//
//gommu:maysleep a test's fake
type instant struct{ _ int }

func (u *instant) Bind(*pagetable.Table) (iommu.Binding, error) { return u, nil }

func (u *instant) DomainID() uint16    { return 1 }
func (u *instant) Attach(uint16) error { return nil }
func (u *instant) Detach(uint16) error { return nil }
func (u *instant) Recover() error      { return nil }
func (u *instant) Close() error        { return nil }

func (u *instant) Begin(iova, size uint64, leavesOnly bool) (iommu.Ticket, error) { return 1, nil }
func (u *instant) Done(t iommu.Ticket) (bool, error)                              { return true, nil }
func (u *instant) Publish(iova, size uint64) error                                { return nil }

// instantRig is a rig with such a unit.
func instantRig(t testing.TB, opts iommu.Options, scatter bool) *rig {
	r := newUnit(t, settings[0])
	r.mem.scatter = scatter
	o := r.tables(pagetable.SecondStage)
	o.Table.Coherent = true
	d, err := iommu.New(t.Context(), r.mem, o, opts)
	if err != nil {
		t.Fatal(err)
	}
	r.d = d
	t.Cleanup(func() {
		if err := d.CloseForced(context.Background()); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	if r.region, err = d.Register(t.Context(), r.mem.mem, iommu.Bidirectional); err != nil {
		t.Fatal(err)
	}
	if err := d.Attach(iommu.Device{Source: rigSource, Unit: new(instant)}); err != nil {
		t.Fatal(err)
	}
	return r
}

// run spreads b.N calls of what f returns over goroutines.
func run(b *testing.B, goroutines int, f func(i int) func() error) {
	var wg sync.WaitGroup
	b.ResetTimer()
	for i := range goroutines {
		wg.Go(func() {
			do := f(i)
			for range (b.N + goroutines - 1) / goroutines {
				if err := do(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkMapUnmap(b *testing.B) {
	for _, policy := range []struct {
		name string
		p    iommu.Policy
	}{{"batched", iommu.Batched}, {"strict", iommu.Strict}} {
		for _, g := range []struct {
			name string
			n    int
		}{{"1", 1}, {"2", 2}, {"64", 64}} {
			b.Run(policy.name+"/"+g.name, func(b *testing.B) {
				r := instantRig(b, iommu.Options{Flush: iommu.Flush{Policy: policy.p}}, false)
				run(b, g.n, func(i int) func() error {
					mem := r.data(i*page, page)
					return func() error {
						m, err := r.d.Map(mem, iommu.Bidirectional)
						if err != nil {
							return err
						}
						return r.d.Unmap(m)
					}
				})
			})
		}
	}
	b.Run("ring/1", func(b *testing.B) {
		r := instantRig(b, iommu.Options{}, false)
		ring, err := r.d.NewRing(b.Context(), iommu.RingOptions{})
		if err != nil {
			b.Fatal(err)
		}
		mem := r.data(0, page)
		run(b, 1, func(i int) func() error {
			return func() error {
				m, err := ring.Map(mem, iommu.Bidirectional)
				if err != nil {
					return err
				}
				return ring.Unmap(m)
			}
		})
		if err := ring.Close(); err != nil {
			b.Error(err)
		}
	})
}

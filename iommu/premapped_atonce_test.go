package iommu_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gommu/iommu"
)

// TestPremappedAtOnce: goroutines map, sync and unmap what others register and close.
func TestPremappedAtOnce(t *testing.T) {
	ctx := context.Background()
	p := newPre(t, iommu.Options{MaxMappings: 1 << 10})
	mem := p.alloc(4 * slab)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	var mapped, refusedMaps, closed atomic.Int64
	for g := range 4 {
		wg.Add(1)
		go func() { // closes and registers again
			defer wg.Done()
			own := mem[g*slab:][:slab]
			for i := range 150 {
				r, err := p.d.Register(ctx, own, both)
				if err != nil {
					t.Error(err)
					return
				}
				for {
					err := r.Close()
					if err == nil {
						break
					}
					if !errors.Is(err, iommu.ErrMapped) {
						t.Error(err)
						return
					}
				}
				closed.Add(1)
				if i%50 == 0 {
					time.Sleep(time.Millisecond)
				}
			}
		}()
	}
	var users sync.WaitGroup
	for g := range 4 {
		users.Add(1)
		go func() {
			defer users.Done()
			rnd := rand.New(rand.NewPCG(1, uint64(g)))
			foreign := make([]byte, 3000)
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				a := mem[rnd.IntN(len(mem)-200):][:100]
				if i%7 == 0 {
					a = foreign
				}
				// Of a region that is just being closed, it is bounced.
				m, err := p.d.Map(a, iommu.ToDevice)
				if err != nil {
					if !errors.Is(err, iommu.ErrNotRegistered) && !errors.Is(err, iommu.ErrEmpty) {
						t.Errorf("map: %v", err)
						return
					}
					refusedMaps.Add(1)
					continue
				}
				mapped.Add(1)
				if err := p.k.dma(m.IOVA(), make([]byte, 100), false); err != nil {
					t.Errorf("what is mapped is not in reach: %v", err)
					return
				}
				if err := errors.Join(p.d.SyncForDevice(m, 0, 100), p.d.Unmap(m)); err != nil {
					t.Error(err)
					return
				}
			}
		}()
	}
	wg.Wait()
	close(stop)
	users.Wait()
	t.Logf("%d mapped, %d refused, %d closed", mapped.Load(), refusedMaps.Load(), closed.Load())
}

// TestPremappedUnmapAtOnce: of several unmaps of one mapping, one succeeds.
func TestPremappedUnmapAtOnce(t *testing.T) {
	p := newPre(t, iommu.Options{})
	mem := p.alloc(slab)
	p.register(mem, both)
	foreign := make([]byte, 100)
	for i := range 300 {
		a := mem[:100]
		if i%2 == 0 {
			a = foreign
		}
		m := p.domap(a, both)
		var wg sync.WaitGroup
		var n atomic.Int32
		for range 3 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				if err := p.d.Unmap(m); err == nil {
					n.Add(1)
				} else if !errors.Is(err, iommu.ErrNotMapped) {
					t.Error(err)
				}
			}()
		}
		wg.Wait()
		if n.Load() != 1 {
			t.Fatalf("%d of 3 unmaps succeeded", n.Load())
		}
	}
}

func TestPremappedAllocs(t *testing.T) {
	p := newPre(t, iommu.Options{})
	mem := p.alloc(slab)
	p.register(mem, both)
	foreign := make([]byte, 300)
	list, mixed, out := [][]byte{mem[:100], mem[page : page+100]}, [][]byte{mem[:100], foreign}, make([]iommu.Piece, 4)
	for what, f := range map[string]func() error{
		"map": func() error {
			m, err := p.d.Map(mem[10:500], both)
			return errors.Join(err, p.d.SyncForCPU(m, 0, 10), p.d.SyncForDevice(m, 0, 10), p.d.Unmap(m))
		},
		"bounce": func() error {
			m, err := p.d.Map(foreign, both)
			return errors.Join(err, p.d.SyncForCPU(m, 0, 10), p.d.SyncForDevice(m, 0, 10), p.d.Unmap(m))
		},
		"list": func() error {
			m, _, err := p.d.MapSG(list, both, iommu.ListLimits{}, out)
			return errors.Join(err, p.d.Unmap(m))
		},
		"mixed list": func() error {
			m, _, err := p.d.MapSG(mixed, both, iommu.ListLimits{}, out)
			return errors.Join(err, p.d.SyncForCPU(m, 0, 110), p.d.Unmap(m))
		},
	} {
		if n := testing.AllocsPerRun(100, func() {
			if err := f(); err != nil {
				t.Error(what, err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", what, n)
		}
	}
}

// TestPremappedFull: as many mappings as were asked for, then ErrEmpty at once, then again.
func TestPremappedFull(t *testing.T) {
	const n = 500
	p := newPre(t, iommu.Options{MaxMappings: n})
	mem := p.alloc(slab)
	p.register(mem, both)
	for range 3 {
		var all []iommu.Mapping
		var err error
		for len(all) < 10*n {
			var m iommu.Mapping
			if m, err = p.d.Map(mem[:page], both); err != nil {
				break
			}
			all = append(all, m)
		}
		if err != iommu.ErrEmpty || len(all) < n {
			t.Errorf("%v after %d", err, len(all))
		}
		for _, m := range all {
			ok(t, p.d.Unmap(m))
		}
	}
}

func TestPremappedCloseForced(t *testing.T) {
	ctx := context.Background()
	p := newPre(t, iommu.Options{})
	mem := p.alloc(slab)
	p.register(mem[:slab/2], both)
	foreign := make([]byte, 100)
	one, two := p.domap(mem[:page], both), p.domap(foreign, both)
	three, _, err := p.d.MapSG([][]byte{mem[:100], foreign}, both, iommu.ListLimits{}, make([]iommu.Piece, 2))
	ok(t, err)
	four, err := p.d.MapWait(ctx, mem[slab/2:][:100], both, iommu.Place{})
	ok(t, err)
	if n := len(p.d.Live()); n != 4 {
		t.Errorf("%d live", n)
	}
	refused(t, "close", p.d.Close(ctx), iommu.ErrMapped)
	ok(t, p.d.CloseForced(ctx))
	for _, m := range []iommu.Mapping{one, two, three, four} {
		refused(t, "unmap", p.d.Unmap(m), iommu.ErrNotMapped)
	}
}

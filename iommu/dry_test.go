package iommu_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"gommu/iommu"
	"gommu/pagetable"
)

// With no frame to be had, small mappings go on in tables that are held; large ones are answered ErrEmpty
// at once, and change nothing; once there are frames again all works.
func TestNoFrames(t *testing.T) {
	for _, p := range policies {
		t.Run(p.name, func(t *testing.T) {
			r := newRig(t, settings[0], iommu.Options{Flush: p.f})
			var held []pagetable.Frame
			take := func() {
				for {
					f, err := r.frames.Get()
					if err != nil {
						return
					}
					held = append(held, f)
				}
			}
			for end := time.Now().Add(50 * time.Millisecond); time.Now().Before(end); {
				take() // the pool's worker makes more until there are none
			}
			for range 50 {
				m := r.mapped(r.data(0, page), iommu.Bidirectional)
				r.reached(m.IOVA())
				want(t, r.d.Unmap(m), nil)
			}
			large := r.data(page, 2<<20)
			live := len(r.d.Live())
			for range 10 {
				take()
				if _, err := r.d.Map(large, iommu.Bidirectional); !errors.Is(err, iommu.ErrEmpty) {
					t.Fatalf("large map without frames: %v", err)
				}
			}
			if n := len(r.d.Live()); n != live {
				t.Errorf("%d live, want %d", n, live)
			}
			for _, f := range held {
				want(t, r.frames.Put(f), nil)
			}
			for end := time.Now().Add(rigTimeout); ; {
				m, err := r.d.Map(large, iommu.Bidirectional)
				if err == nil {
					r.reached(m.IOVA() + 2<<20 - 1)
					want(t, r.d.Unmap(m), nil)
					break
				}
				if time.Now().After(end) {
					t.Fatalf("with frames again: %v", err)
				}
			}
			want(t, r.d.Close(t.Context()), nil)
		})
	}
}

// Each frame that is missing, for every N, fails a large Map as a whole.
func TestFailNthFrame(t *testing.T) {
	r := newRig(t, settings[0], iommu.Options{Check: true})
	ok := 0
	for n := 0; ok < 3; n++ {
		var held []pagetable.Frame
		for r.frames.Stats().Free > n {
			f, err := r.frames.Get()
			if err != nil {
				break
			}
			held = append(held, f)
		}
		m, err := r.d.Map(r.data(page, 5<<20), iommu.Bidirectional)
		switch {
		case err == nil:
			ok++
			r.reached(m.IOVA())
			want(t, r.d.Unmap(m), nil)
			r.blocked(m.IOVA())
		case !errors.Is(err, iommu.ErrEmpty):
			t.Fatal(err)
		}
		for _, f := range held {
			want(t, r.frames.Put(f), nil)
		}
		if live := len(r.d.Live()); live != 0 {
			t.Fatalf("%d live", live)
		}
		if n > 100 {
			t.Fatal("100 frames do not suffice")
		}
	}
	want(t, r.d.Close(t.Context()), nil)
}

// When all windows are out a Map is answered at once, and works again when some are back.
func TestNoWindows(t *testing.T) {
	for _, p := range policies {
		t.Run(p.name, func(t *testing.T) {
			r := newRig(t, settings[0], iommu.Options{Flush: p.f, MaxMappings: 64})
			var all []iommu.Mapping
			for end := time.Now().Add(rigTimeout); len(all) < 64; {
				m, err := r.d.Map(r.data(0, page), iommu.ToDevice)
				if err == nil {
					all = append(all, m)
				} else if !errors.Is(err, iommu.ErrEmpty) || time.Now().After(end) {
					t.Fatalf("after %d: %v", len(all), err)
				}
			}
			for len(all) < 1000 {
				m, err := r.d.Map(r.data(0, page), iommu.ToDevice)
				if err != nil {
					want(t, err, iommu.ErrEmpty)
					break
				}
				all = append(all, m)
			}
			for _, m := range all {
				want(t, r.d.Unmap(m), nil)
			}
			want(t, r.d.Flush(t.Context()), nil)
			m := r.mapped(r.data(0, page), iommu.ToDevice)
			r.reached(m.IOVA())
			want(t, r.d.Unmap(m), nil)
			want(t, r.d.Close(t.Context()), nil)
		})
	}
}

// A unit that fails at the nth Begin or Done, for every n, leaves nothing behind.
func TestFailNthFlush(t *testing.T) {
	for _, p := range policies {
		t.Run(p.name, func(t *testing.T) {
			for n := 1; n <= 12; n++ {
				r := newRig(t, settings[0], iommu.Options{Flush: p.f, Check: true})
				r.gate.set(func(g *gate) {
					if g.failAt = g.begins + (n+1)/2; n%2 == 0 {
						g.failAt, g.doneAt = 0, g.dones+n/2
					}
				})
				for i := range 30 {
					m, err := r.d.Map(r.data(i*page, page), iommu.Bidirectional)
					if err == nil {
						err = r.d.Unmap(m)
					}
					if err != nil && !errors.Is(err, iommu.ErrFlush) && !errors.Is(err, iommu.ErrEmpty) {
						t.Fatal(err)
					}
				}
				want(t, r.d.Flush(t.Context()), nil)
				want(t, r.d.Close(t.Context()), nil)
				r.close()
			}
		})
	}
}

// Several goroutines map, move data and unmap at once, beside a ring, lists, flushes and a
// unit that fails now and then.
func TestAtOnce(t *testing.T) {
	for _, p := range policies {
		t.Run(p.name, func(t *testing.T) {
			r := newRig(t, settings[0], iommu.Options{Flush: p.f, Check: true})
			var wg sync.WaitGroup
			ring := newRing(t, r.d, iommu.RingOptions{Burst: 16})
			for g := range 6 {
				wg.Go(func() {
					mem := r.data((4*g)*page, 2*page)
					for i := range 150 {
						do, undo := r.d.Map, r.d.Unmap
						if g == 0 {
							do, undo = ring.Map, ring.Unmap
						}
						m, err := do(mem, iommu.Bidirectional)
						if errors.Is(err, iommu.ErrEmpty) {
							continue
						}
						if err != nil {
							t.Error(err)
							return
						}
						text := []byte{byte(g), byte(i), byte(i >> 8)}
						if err := r.dev.Write(m.IOVA()+uint64(i%4000), text); err != nil {
							t.Error(err)
						}
						if got := mem[i%4000:][:3]; string(got) != string(text) {
							t.Errorf("goroutine %d finds %v, wrote %v", g, got, text)
						}
						if err := undo(m); err != nil && !errors.Is(err, iommu.ErrFlush) {
							t.Error(err)
						}
						if g == 1 && i%50 == 0 {
							r.gate.set(func(g *gate) { g.failAt = g.begins + 1 })
						}
						if g == 2 && i%20 == 0 {
							if err := r.d.Flush(context.Background()); err != nil {
								t.Error(err)
							}
							r.d.Live()
						}
					}
				})
			}
			wg.Wait()
			r.gate.set(func(g *gate) { g.failAt = 0 })
			want(t, r.d.Flush(t.Context()), nil)
			want(t, ring.Close(), nil)
			want(t, r.d.Close(t.Context()), nil)
		})
	}
}

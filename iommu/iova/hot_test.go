//go:build !debug

package iova

import "testing"

// The calls of the hot path allocate nothing, refused for want of windows or not. (The pools of debug builds do, to keep
// books.)
func TestNothingIsAllocated(t *testing.T) {
	s := open(t, Options{})
	c := s.NewCache(0)
	r, err := s.NewRing(soon(t), 1<<20, 0)
	if err != nil {
		t.Fatal(err)
	}
	dry := open(t, Options{MaxWindows: 4, Stock: keepOnly(map[int]Stock{0: {Low: 1, High: 1, Max: 1}})})
	dryCache, dryRing := dry.NewCache(1), func() *Ring {
		r, err := dry.NewRing(soon(t), 1, 1)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}()
	must := func(err error) {
		if err != nil {
			t.Error(err)
		}
	}
	w0, err := dry.Alloc(1)
	must(err)
	r0, err := dryRing.Alloc(1)
	must(err)
	var batch [40]Window
	for name, f := range map[string]func(){
		"Space": func() {
			for _, size := range []uint64{1, 1 << 16, 1 << 21, 1 << 30} {
				w, err := s.Alloc(size)
				must(err)
				must(s.Free(w))
			}
		},
		"FreeBatch": func() {
			for i := range batch {
				w, err := s.Alloc(1 << (i & 12))
				must(err)
				batch[i] = w
			}
			_, err := s.FreeBatch(batch[:])
			must(err)
		},
		"Cache": func() {
			for i := range batch {
				w, err := c.Alloc(1 << (i & 12))
				must(err)
				batch[i] = w
			}
			for _, w := range batch {
				must(c.Free(w))
			}
		},
		"Flush": func() {
			w, err := c.Alloc(1)
			must(err)
			must(c.Free(w))
			must(c.Flush())
		},
		"Ring": func() {
			w, err := r.Alloc(9000)
			must(err)
			must(r.Free(w))
		},
		"empty": func() {
			for _, alloc := range []func(uint64) (Window, error){dry.Alloc, dryCache.Alloc, dryRing.Alloc} {
				if _, err := alloc(1); err == nil {
					t.Error("there are windows")
				}
			}
		},
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	must(dry.Free(w0))
	must(dryRing.Free(r0))
	must(dryRing.Close())
	must(r.Close())
	must(c.Close())
	shut(t, dry, nil)
	shut(t, s, nil)
}

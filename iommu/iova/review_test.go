package iova

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// While Retire takes the tables of a block down, nobody has a window that covers the block: pagetable.Unhold allows no
// other call in its range.
func TestNoWindowWhileRetired(t *testing.T) {
	const at = 1 << 32
	for name, sizes := range map[string][2]uint64{"chunk": {PageSize, 1 << chunkBits}, "area": {1 << chunkBits, 1 << areaBits}} {
		t.Run(name, func(t *testing.T) {
			var whole, retiring atomic.Int32
			var wrong atomic.Int32
			o := Options{Ranges: []Range{{Start: at, Last: at + 4<<areaBits - 1}}, MaxWindows: 1 << 16,
				Prepare: func(context.Context, int, uint64, uint64) error { return nil },
				Retire: func(level int, iova, size uint64) error {
					if iova != at || size != sizes[1] {
						return nil
					}
					retiring.Add(1)
					runtime.Gosched()
					if whole.Load() != 0 {
						wrong.Add(1)
					}
					retiring.Add(-1)
					return nil
				},
			}
			s, err := New(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			var all sync.WaitGroup
			for k := range 2 {
				all.Go(func() {
					for range 60_000 {
						w, err := s.AllocWait(context.Background(), Request{Size: sizes[k], Fixed: true, At: at})
						if err != nil {
							runtime.Gosched()
							continue
						}
						if k == 1 {
							whole.Add(1)
							if retiring.Load() != 0 {
								wrong.Add(1)
							}
							runtime.Gosched()
							if retiring.Load() != 0 {
								wrong.Add(1)
							}
							whole.Add(-1)
						}
						if err := s.FreeWait(w); err != nil {
							t.Error(err)
						}
					}
				})
			}
			all.Wait()
			if n := wrong.Load(); n != 0 {
				t.Errorf("%d times a block was retired while a window that covers it was out", n)
			}
			if err := s.Close(soon(t)); err != nil {
				t.Error(err)
			}
		})
	}
}

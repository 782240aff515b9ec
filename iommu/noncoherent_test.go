package iommu_test

import (
	"sync"
	"testing"

	"gommu/internal/cacheline"
	"gommu/iommu"
)

// What a device wrote through a ring, and what lies in a list, is flushed too where devices do not snoop.
func TestNonCoherentRingAndList(t *testing.T) {
	s := settings[0]
	r := newUnit(t, s)
	r.domain(s, iommu.Options{NonCoherent: true})
	ring := newRing(t, r.d, iommu.RingOptions{})
	var mu sync.Mutex
	lines := map[uint64]bool{}
	defer cacheline.Watch(func(words []uint64) {
		mu.Lock()
		defer mu.Unlock()
		for i := range words {
			lines[wordAddress(words[i:])&^63] = true
		}
	})()
	check := func(what string, mem []byte, f func() error) {
		t.Helper()
		mu.Lock()
		clear(lines)
		mu.Unlock()
		want(t, f(), nil)
		mu.Lock()
		defer mu.Unlock()
		for at := address(mem) &^ 63; at < address(mem)+uint64(len(mem)); at += 64 {
			if !lines[at] {
				t.Errorf("%s: line %#x of %#x bytes at %#x is not flushed", what, at, len(mem), address(mem))
				return
			}
		}
	}
	mem := r.data(3*page+100, 3000)
	m, err := ring.Map(mem, iommu.FromDevice)
	want(t, err, nil)
	check("unmap in a ring", mem, func() error { return ring.Unmap(m) })

	list := [][]byte{r.data(0, 100), r.data(5*page+8, 2*page), r.data(10*page+3000, 200)}
	m, _, err = r.d.MapSG(list, iommu.Bidirectional, iommu.ListLimits{}, make([]iommu.Piece, 3))
	want(t, err, nil)
	off := uint64(0)
	for _, part := range list {
		n := uint64(len(part))
		check("sync of a part of a list for the device", part, func() error { return r.d.SyncForDevice(m, off, n) })
		check("sync of a part of a list for the processor", part, func() error { return r.d.SyncForCPU(m, off, n) })
		off += n
	}
	want(t, r.d.Unmap(m), nil)
}

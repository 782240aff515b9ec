package model_test

import (
	"testing"

	"pgregory.net/rapid"

	"gommu/iommu/model"
)

// TestStaleness compares the unit with a plain account of what it has to have
// cached: pages of two domains are mapped, unmapped, read and invalidated at
// random. Tables on the way to the pages are all there, so only the IOTLB matters.
func TestStaleness(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		cm := rapid.Bool().Draw(rt, "caching mode")
		r := newRig(t, model.Config{CachingMode: cm, Coherent: true})
		// Pages in two leaf tables that are next to each other.
		const base, pages, data = 0x7f_ffff_f000 - 31<<12, 64, 4
		var tops [2]uint64
		for i := range tops {
			tops[i] = r.frame()
			for p := range uint64(pages) {
				r.page(tops[i], base+p<<12, 0, 0)
			}
			r.attach(source+uint16(i), domain+uint64(i), tops[i], 4)
		}
		for i := range uint64(data) {
			r.fill(dataBase + i<<12)
		}
		r.start(0)
		cached := [2]map[uint64]uint64{{}, {}} // by page: the entry that the unit saw
		page := rapid.Uint64Range(0, pages-1)
		which := rapid.IntRange(0, 1)
		steps := map[string]func(*rapid.T){
			"map": func(rt *rapid.T) {
				r.page(tops[which.Draw(rt, "domain")], base+page.Draw(rt, "page")<<12, dataBase+rapid.Uint64Range(0, data-1).Draw(rt, "data")<<12, rw)
			},
			"unmap": func(rt *rapid.T) {
				r.page(tops[which.Draw(rt, "domain")], base+page.Draw(rt, "page")<<12, 0, 0)
			},
			"invalidate pages": func(rt *rapid.T) {
				i, iova, mask := which.Draw(rt, "domain"), base+page.Draw(rt, "page")<<12, rapid.Uint64Range(0, 6).Draw(rt, "mask")
				r.invalidate(iotlbInv(selective, domain+uint64(i), iova, mask, rapid.Uint64Range(0, 1).Draw(rt, "hint")))
				for p := range cached[i] {
					if (base+p<<12)>>(12+mask) == iova>>(12+mask) {
						delete(cached[i], p)
					}
				}
			},
			"invalidate a domain": func(rt *rapid.T) {
				i := which.Draw(rt, "domain")
				r.invalidate(iotlbInv(byDomain, domain+uint64(i), 0, 0, 0))
				clear(cached[i])
			},
		}
		read := func(rt *rapid.T) {
			i, p := which.Draw(rt, "domain"), page.Draw(rt, "page")
			e, ok := cached[i][p]
			if !ok {
				e = r.get(r.entry(tops[i], 4, base+p<<12, 1, 0))
				if e != 0 || cm {
					cached[i][p] = e
				}
			}
			b := make([]byte, 8)
			err := r.Device(source+uint16(i)).Read(base+p<<12, b)
			if want := e &^ 0xfff; (err == nil) != (e != 0) || words(b)[0] != want {
				rt.Fatalf("domain %d, page %d: read %#x, %v; want %#x", i, p, words(b)[0], err, want)
			}
		}
		steps["read"], steps["read again"], steps[""] = read, read, func(*rapid.T) {}
		rt.Repeat(steps)
	})
}

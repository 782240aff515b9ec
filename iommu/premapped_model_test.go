package iommu_test

import (
	"context"
	"errors"
	"testing"

	"pgregory.net/rapid"

	"gommu/iommu"
)

// TestPremappedRandom registers, maps, lists, unmaps, moves data and closes at random and compares every answer, and what the device
// sees and reaches, with a plain list of regions and mappings.
func TestPremappedRandom(t *testing.T) {
	ctx := context.Background()
	p := newPre(t, iommu.Options{Bounce: iommu.Bounce{Off: true}})
	mem := p.alloc(slab)
	type region struct {
		r          *iommu.Region
		first, end int // bytes of mem
		dir        iommu.Direction
		maps       int
	}
	type mapping struct {
		m   iommu.Mapping
		off int
		n   int
		dir iommu.Direction
		in  []*region
	}
	rapid.Check(t, func(t *rapid.T) {
		var regions []*region
		var maps, gone []mapping
		find := func(off, n int) *region {
			for _, r := range regions {
				if off >= r.first && off+n <= r.end {
					return r
				}
			}
			return nil
		}
		dirs := rapid.SampledFrom([]iommu.Direction{iommu.ToDevice, iommu.FromDevice, both})
		answer := func(what string, err, want error) bool {
			if !errors.Is(err, want) {
				t.Fatalf("%s: %v, want %v", what, err, want)
			}
			return err == nil
		}
		expect := func(r *region, dir iommu.Direction) error {
			switch {
			case r == nil:
				return iommu.ErrNotRegistered
			case dir&^r.dir != 0:
				return iommu.ErrDirection
			}
			return nil
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.SampledFrom([]string{"register", "map", "map", "map", "list", "unmap", "unmap", "again", "close", "dma", "dma"}).Draw(t, "step") {
			case "register":
				first := rapid.IntRange(0, 40).Draw(t, "page") * page
				end := first + rapid.IntRange(1, 8).Draw(t, "pages")*page
				dir := dirs.Draw(t, "direction")
				var want error
				for _, r := range regions {
					if first < r.end && r.first < end {
						want = iommu.ErrRegistered
					}
				}
				r, err := p.d.Register(ctx, mem[first:end], dir)
				if answer("register", err, want) {
					regions = append(regions, &region{r, first, end, dir, 0})
				}
			case "map":
				off, n := rapid.IntRange(0, 45*page).Draw(t, "offset"), rapid.IntRange(1, 3*page).Draw(t, "size")
				dir := dirs.Draw(t, "direction")
				r := find(off, n)
				m, err := p.d.Map(mem[off:][:n], dir)
				if answer("map", err, expect(r, dir)) {
					r.maps++
					maps = append(maps, mapping{m, off, n, dir, []*region{r}})
				}
			case "list":
				var list [][]byte
				var in []*region
				var want error
				dir := dirs.Draw(t, "direction")
				for range rapid.IntRange(1, 4).Draw(t, "pieces") {
					off, n := rapid.IntRange(0, 45*page).Draw(t, "offset"), rapid.IntRange(1, page).Draw(t, "size")
					r := find(off, n)
					list, in = append(list, mem[off:][:n]), append(in, r)
					if want == nil {
						want = expect(r, dir)
					}
				}
				m, _, err := p.d.MapSG(list, dir, iommu.ListLimits{}, make([]iommu.Piece, 4))
				if answer("map list", err, want) {
					for _, r := range in {
						r.maps++
					}
					maps = append(maps, mapping{m, -1, 0, dir, in})
				}
			case "unmap":
				if len(maps) == 0 {
					continue
				}
				i := rapid.IntRange(0, len(maps)-1).Draw(t, "which")
				answer("unmap", p.d.Unmap(maps[i].m), nil)
				for _, r := range maps[i].in {
					r.maps--
				}
				gone = append(gone, maps[i])
				maps = append(maps[:i], maps[i+1:]...)
			case "again":
				if len(gone) > 0 {
					m := gone[rapid.IntRange(0, len(gone)-1).Draw(t, "which")].m
					answer("unmap again", p.d.Unmap(m), iommu.ErrNotMapped)
					answer("sync of what is gone", p.d.SyncForDevice(m, 0, 1), iommu.ErrNotMapped)
				}
			case "close":
				if len(regions) == 0 {
					continue
				}
				i := rapid.IntRange(0, len(regions)-1).Draw(t, "which")
				var want error
				if regions[i].maps > 0 {
					want = iommu.ErrMapped
				}
				if answer("close region", regions[i].r.Close(), want) {
					regions = append(regions[:i], regions[i+1:]...)
				}
			case "dma":
				if len(maps) == 0 {
					continue
				}
				m := maps[rapid.IntRange(0, len(maps)-1).Draw(t, "which")]
				if m.off < 0 {
					continue
				}
				at := rapid.IntRange(0, m.n-1).Draw(t, "at")
				b := []byte{byte(rapid.IntRange(0, 255).Draw(t, "byte"))}
				if m.dir&iommu.FromDevice != 0 {
					answer("device writes", p.k.dma(m.m.IOVA()+uint64(at), b, true), nil)
				} else {
					mem[m.off+at] = b[0]
				}
				if m.dir&iommu.ToDevice != 0 {
					got := []byte{0}
					answer("device reads", p.k.dma(m.m.IOVA()+uint64(at), got, false), nil)
					b = got
				}
				if mem[m.off+at] != b[0] {
					t.Fatal("the device and the processor see different bytes")
				}
			}
			if live := p.d.Live(); len(live) != len(maps) {
				t.Fatalf("%d live, want %d", len(live), len(maps))
			}
			if n := p.k.used(); n != len(regions) {
				t.Fatalf("the kernel has %d mappings, want %d", n, len(regions))
			}
		}
		for _, m := range maps {
			answer("unmap", p.d.Unmap(m.m), nil)
		}
		for _, r := range regions {
			answer("close region", r.r.Close(), nil)
		}
	})
}

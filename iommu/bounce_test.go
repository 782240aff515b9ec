package iommu_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"gommu/internal/cacheline"
	"gommu/iommu"
	"gommu/iommu/model"
	"gommu/pagetable"
)

// A device moves bytes.
type device interface {
	dma(iova uint64, buf []byte, write bool) error
}

// modelDevice is one of the model.
type modelDevice struct{ dev *model.Device }

func (m modelDevice) dma(iova uint64, buf []byte, write bool) error {
	if write {
		return m.dev.Write(iova, buf)
	}
	return m.dev.Read(iova, buf)
}

// newBounced is a domain with tables on the model, all of whose data memory is the domain's.
func newBounced(t testing.TB, opts iommu.Options) (*iommu.Domain, modelDevice, *rig) {
	t.Helper()
	s := settings[0]
	r := newUnitOf(t, s, 12<<20/page)
	data := r.mem.mem
	seg, err := iommu.NewSegments(pagetable.Segment{Bus: r.mem.bus, Mem: data})
	ok(t, err)
	opts.Bounce.On = true
	opts.MaxMappings = 1024
	d, err := iommu.New(t.Context(), seg, r.tables(s.stage), opts)
	ok(t, err)
	t.Cleanup(func() {
		if err := d.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if out, pinned := seg.InUse(); out != 0 || pinned != 0 {
			t.Errorf("%d bytes out, %d runs pinned", out, pinned)
		}
	})
	ok(t, d.Attach(iommu.Device{Source: rigSource, Unit: r.u}))
	return d, modelDevice{r.dev}, r
}

// bouncing runs a test with each kind of domain.
func bouncing(t *testing.T, f func(t *testing.T, d *iommu.Domain, dev device)) {
	t.Run("premapped", func(t *testing.T) {
		p := newPre(t, iommu.Options{Bounce: iommu.Bounce{Max: 2}})
		f(t, p.d, p.k)
	})
	t.Run("tables", func(t *testing.T) {
		d, dev, _ := newBounced(t, iommu.Options{Bounce: iommu.Bounce{Max: 1}})
		f(t, d, dev)
	})
	t.Run("batched", func(t *testing.T) {
		d, dev, _ := newBounced(t, iommu.Options{Bounce: iommu.Bounce{Max: 1}, Flush: iommu.Flush{Policy: iommu.Batched}})
		f(t, d, dev)
	})
}

// TestBounceData maps foreign memory of any size and offset, has processor and device write and sync parts at random, and
// compares what each sees with two arrays: the user's memory and the buffer.
func TestBounceData(t *testing.T) {
	bouncing(t, func(t *testing.T, d *iommu.Domain, dev device) {
		all := pages(40)
		rapid.Check(t, func(t *rapid.T) {
			size := rapid.SampledFrom([]int{1, 7, 64, 100, 4095, 4096, 5000, 65536, 100000}).Draw(t, "size")
			off := rapid.IntRange(0, 2*page).Draw(t, "offset")
			dir := rapid.SampledFrom([]iommu.Direction{iommu.ToDevice, iommu.FromDevice, both}).Draw(t, "direction")
			rnd := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
			fill := func(b []byte) {
				for i := range b {
					b[i] = byte(rnd.Uint32())
				}
			}
			fill(all)
			mem := all[off:][:size]
			around := bytes.Clone(all)
			m, err := d.Map(mem, dir)
			if errors.Is(err, iommu.ErrEmpty) { // others wait for their flush, or none of this class is ready yet
				t.Skip("no bounce buffer of this class is ready: rapid draws again")
			}
			if err != nil {
				t.Fatal(err)
			}
			if m.IOVA()%page != address(mem)%page {
				t.Fatalf("memory at %#x is mapped at %#x", address(mem), m.IOVA())
			}
			user, buffer := bytes.Clone(mem), bytes.Clone(mem)
			for range rapid.IntRange(0, 8).Draw(t, "steps") {
				from := rapid.IntRange(0, size-1).Draw(t, "from")
				n := rapid.IntRange(1, size-from).Draw(t, "n")
				at, part := m.IOVA()+uint64(from), make([]byte, n)
				switch rapid.IntRange(0, 4).Draw(t, "step") {
				case 0:
					fill(mem[from:][:n])
					copy(user[from:], mem[from:][:n])
				case 1:
					fill(part)
					if dir&iommu.FromDevice != 0 {
						err = dev.dma(at, part, true)
						copy(buffer[from:], part)
					}
				case 2:
					if dir&iommu.ToDevice != 0 {
						if err = dev.dma(at, part, false); !bytes.Equal(part, buffer[from:][:n]) {
							t.Fatal("the device read something else")
						}
					}
				case 3:
					err = d.SyncForDevice(m, uint64(from), uint64(n))
					copy(buffer[from:][:n], user[from:])
				case 4:
					if err = d.SyncForCPU(m, uint64(from), uint64(n)); dir != iommu.ToDevice {
						copy(user[from:][:n], buffer[from:])
					} else if errors.Is(err, iommu.ErrDirection) {
						err = nil
					}
				}
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(mem, user) {
					t.Fatal("the processor sees something else")
				}
			}
			if err := d.Unmap(m); err != nil {
				t.Fatal(err)
			}
			if dir&iommu.FromDevice != 0 {
				user = buffer
			}
			copy(around[off:], user)
			if !bytes.Equal(all, around) {
				t.Fatal("after the unmap something else is in memory, or beside it")
			}
		})
	})
}

func TestBounceErrors(t *testing.T) {
	bouncing(t, func(t *testing.T, d *iommu.Domain, dev device) {
		all := pages(300)
		_, err := d.Map(all[1:][:1<<20], both)
		refused(t, "1 MiB that does not start with its page", err, iommu.ErrBounce)
		_, err = d.Map(all[:1<<20+1], both)
		refused(t, "more than 1 MiB", err, iommu.ErrBounce)
		m, err := d.Map(all[:1<<20], both)
		ok(t, err)
		copy(all, "overwritten")
		ok(t, dev.dma(m.IOVA()+1<<20-5, []byte("end"), true), d.Unmap(m))
		if string(all[1<<20-5:][:3]) != "end" || all[0] != 0 {
			t.Error("1 MiB did not come back")
		}
		refused(t, "unmap twice", d.Unmap(m), iommu.ErrNotMapped)
	})
}

// TestBounceDry: what is not ready is refused at once, and had again later.
func TestBounceDry(t *testing.T) {
	bouncing(t, func(t *testing.T, d *iommu.Domain, dev device) {
		mem := make([]byte, 60000)
		var all []iommu.Mapping
		for len(all) < 1000 {
			m, err := d.Map(mem, both)
			if err != nil {
				if err != iommu.ErrEmpty {
					t.Fatal(err)
				}
				break
			}
			all = append(all, m)
		}
		if len(all) < 8 || len(all) == 1000 {
			t.Fatalf("%d at a time", len(all))
		}
		for _, m := range all {
			ok(t, d.Unmap(m))
		}
		eventually(t, "buffer again", func() bool {
			m, err := d.Map(mem, both)
			if err == nil {
				ok(t, d.Unmap(m))
			}
			return err == nil
		})
		// One who may sleep waits: with registered memory there is nothing to wait for.
		ok(t, d.Flush(t.Context()))
	})
}

// TestBounceIsolation: in a domain with tables a device reaches nothing of a buffer that is not mapped, nor what others left beside it.
func TestBounceIsolation(t *testing.T) {
	d, dev, r := newBounced(t, iommu.Options{})
	secret := bytes.Repeat([]byte("secret"), 600)
	m, err := d.Map(secret, both)
	ok(t, err, d.Unmap(m))
	r.blocked(m.IOVA())
	for range 200 {
		m, err := d.Map(secret[:10], iommu.ToDevice)
		ok(t, err)
		whole := make([]byte, page)
		ok(t, dev.dma(m.IOVA()&^(page-1), whole, false))
		if n := bytes.Count(whole, []byte("secret")); n > 1 {
			t.Fatalf("the device sees what others left: %d", n)
		}
		if err := dev.dma(m.IOVA(), []byte("x"), true); err == nil {
			t.Fatal("the device writes what it may only read")
		}
		ok(t, d.Unmap(m))
		r.blocked(m.IOVA())
	}
}

// TestBounceSlabs: slabs come when they are needed and go when they are idle.
func TestBounceSlabs(t *testing.T) {
	p := newPre(t, iommu.Options{Bounce: iommu.Bounce{Max: 8}})
	mem := make([]byte, 1<<20-page)
	var all []iommu.Mapping
	before := p.k.used()
	eventually(t, "six large buffers at a time", func() bool {
		if m, err := p.d.Map(mem, both); err == nil {
			all = append(all, m)
		}
		return len(all) == 6
	})
	if p.k.used() <= before {
		t.Errorf("%d slabs, before %d", p.k.used(), before)
	}
	for _, m := range all {
		ok(t, p.d.Unmap(m))
	}
}

// TestNonCoherent: which lines are flushed before the device reads, and after it wrote.
func TestNonCoherent(t *testing.T) {
	var mu sync.Mutex
	var lines map[uint64]bool
	defer cacheline.Watch(func(words []uint64) {
		mu.Lock() // workers flush their tables
		defer mu.Unlock()
		if lines == nil || len(words) == 0 {
			return
		}
		first, last := wordAddress(words), wordAddress(words[len(words)-1:])
		for at := first &^ 63; at <= last; at += 64 {
			lines[at] = true
		}
	})()
	check := func(t *testing.T, what string, mem []byte, off, n int, f func() error) {
		t.Helper()
		mu.Lock()
		lines = map[uint64]bool{}
		mu.Unlock()
		ok(t, f())
		mu.Lock()
		defer mu.Unlock()
		defer func() { lines = nil }()
		for at := (address(mem) + uint64(off)) &^ 63; at < address(mem)+uint64(off+n); at += 64 {
			if !lines[at] {
				t.Errorf("%s: line %#x of %#x bytes at %#x is not flushed", what, at, n, address(mem)+uint64(off))
				return
			}
		}
		if n == 0 && len(lines) != 0 {
			t.Errorf("%s flushed %d lines", what, len(lines))
		}
	}
	run := func(t *testing.T, d *iommu.Domain, mem []byte) {
		for _, n := range []int{5, 1000, 5 * page} {
			for off := range 3 {
				a := mem[3*page+1000+off*17:][:n]
				var m iommu.Mapping
				check(t, "map", a, 0, n, func() (err error) { m, err = d.Map(a, both); return })
				check(t, "sync for the device", a, n/3, n/2, func() error { return d.SyncForDevice(m, uint64(n/3), uint64(max(n/2, 1))) })
				check(t, "sync for the processor", a, n/2, n/3, func() error { return d.SyncForCPU(m, uint64(n/2), uint64(max(n/3, 1))) })
				check(t, "unmap", a, 0, n, func() error { return d.Unmap(m) })
			}
		}
		lists := [][]byte{mem[:100], mem[page+8:][:page], mem[10*page:][:200]}
		var m iommu.Mapping
		for _, a := range lists {
			check(t, "map list", a, 0, len(a), func() (err error) {
				m, _, err = d.MapSG(lists, both, iommu.ListLimits{}, make([]iommu.Piece, 3))
				return
			})
			check(t, "unmap list", a, 0, len(a), func() error { return d.Unmap(m) })
		}
	}
	t.Run("premapped", func(t *testing.T) {
		p := newPre(t, iommu.Options{NonCoherent: true})
		mem := p.alloc(slab)
		p.register(mem, both)
		run(t, p.d, mem)
		m := p.domap(mem[:page], iommu.ToDevice)
		check(t, "unmap of what the device read", mem, 0, 0, func() error { return p.d.Unmap(m) })
		list := [][]byte{mem[:100], mem[page+8:][:page]}
		m, _, err := p.d.MapSG(list, both, iommu.ListLimits{}, make([]iommu.Piece, 3))
		ok(t, err)
		check(t, "sync in a list", list[1], 50, 100, func() error { return p.d.SyncForCPU(m, 150, 100) })
		ok(t, p.d.Unmap(m))
	})
	t.Run("coherent", func(t *testing.T) {
		p := newPre(t, iommu.Options{})
		mem := p.alloc(slab)
		p.register(mem, both)
		var m iommu.Mapping
		check(t, "map", mem, 0, 0, func() (err error) { m, err = p.d.Map(mem[:page], both); return })
		check(t, "sync", mem, 0, 0, func() error { return p.d.SyncForCPU(m, 0, page) })
		check(t, "unmap", mem, 0, 0, func() error { return p.d.Unmap(m) })
	})
	for _, scatter := range []bool{false, true} {
		t.Run("tables", func(t *testing.T) {
			s := settings[0]
			r := newUnit(t, s)
			r.mem.scatter = scatter
			r.domain(s, iommu.Options{NonCoherent: true})
			run(t, r.d, r.mem.mem)
		})
	}
}

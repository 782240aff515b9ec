package iommu_test

import (
	"context"
	"errors"
	"math"
	"testing"

	"gommu/iommu"
)

// domains runs a test with a premapped domain and one with tables.
func domains(t *testing.T, f func(t *testing.T, d *iommu.Domain, dev device)) {
	t.Run("premapped", func(t *testing.T) {
		// No slab of bounce buffers is to come where something was freed.
		p := newPre(t, iommu.Options{Bounce: iommu.Bounce{Off: true}})
		f(t, p.d, p.k)
	})
	for _, policy := range []iommu.Policy{iommu.Strict, iommu.Batched} {
		t.Run("tables", func(t *testing.T) {
			d, dev, _ := newBounced(t, iommu.Options{Flush: iommu.Flush{Policy: policy}, Bounce: iommu.Bounce{Max: 1}})
			f(t, d, dev)
		})
	}
}

func TestAlloc(t *testing.T) {
	ctx := context.Background()
	domains(t, func(t *testing.T, d *iommu.Domain, dev device) {
		for _, x := range []struct {
			size int
			p    iommu.Place
		}{
			{1, iommu.Place{}},
			{page, iommu.Place{Align: 1 << 16}},
			{3*page + 5, iommu.Place{Boundary: 4 * page, Mask: 1<<32 - 1}},
			{slab, iommu.Place{Mask: 1<<30 - 1}},
			{slab + page, iommu.Place{Align: 1 << 22}},
			{2 * page, iommu.Place{Fixed: true, IOVA: 0x12345000}},
			{slab, iommu.Place{Fixed: true, IOVA: 0x2345000}},
		} {
			b, err := d.Alloc(ctx, x.size, both, x.p)
			if err != nil {
				t.Errorf("%d at %+v: %v", x.size, x.p, err)
				continue
			}
			first, last := b.IOVA(), b.IOVA()+uint64(x.size)-1
			p := x.p
			if len(b.Mem) != x.size || b.Size() != uint64(x.size) || first%page != 0 || p.Align != 0 && first%p.Align != 0 ||
				p.Boundary != 0 && first/p.Boundary != last/p.Boundary || p.Mask != 0 && last > p.Mask || p.Fixed && first != p.IOVA {
				t.Errorf("%d at %+v: %#x bytes of %#x from %#x", x.size, p, b.Size(), len(b.Mem), first)
			}
			for _, v := range b.Mem {
				if v != 0 {
					t.Error("not zero")
					break
				}
			}
			ok(t, dev.dma(last, []byte{7}, true))
			if b.Mem[x.size-1] != 7 {
				t.Error("the device wrote elsewhere")
			}
			m, err := d.Map(b.Mem[x.size-1:], both) // a slice of it is registered memory
			ok(t, err)
			refused(t, "free of what is mapped", d.Free(b), iommu.ErrMapped)
			ok(t, d.Unmap(m), d.Free(b))
			refused(t, "free twice", d.Free(b), iommu.ErrNotMapped)
			if err := dev.dma(last, []byte{8}, true); err == nil {
				t.Error("the device reaches what was freed")
			}
		}
	})
}

func TestAllocErrors(t *testing.T) {
	ctx := context.Background()
	domains(t, func(t *testing.T, d *iommu.Domain, dev device) {
		keep, err := d.Alloc(ctx, page, both, iommu.Place{Fixed: true, IOVA: 0x100000})
		ok(t, err)
		done, stop := context.WithCancel(ctx)
		stop()
		for _, x := range []struct {
			what string
			ctx  context.Context
			size int
			dir  iommu.Direction
			p    iommu.Place
			want error
		}{
			{"nothing", ctx, 0, both, iommu.Place{}, iommu.ErrZeroSize},
			{"less", ctx, -1, both, iommu.Place{}, iommu.ErrZeroSize},
			{"everything", ctx, math.MaxInt, both, iommu.Place{}, iommu.ErrRange},
			{"no direction", ctx, page, 0, iommu.Place{}, iommu.ErrDirection},
			{"odd alignment", ctx, page, both, iommu.Place{Align: 3}, iommu.ErrRange},
			{"odd boundary", ctx, page, both, iommu.Place{Boundary: 5000}, iommu.ErrRange},
			{"more than the boundary", ctx, 2 * page, both, iommu.Place{Boundary: page}, iommu.ErrRange},
			{"more than the mask", ctx, 2 * page, both, iommu.Place{Mask: page - 1}, iommu.ErrMask},
			{"fixed beyond the mask", ctx, page, both, iommu.Place{Mask: 1<<20 - 1, Fixed: true, IOVA: 1 << 20}, iommu.ErrMask},
			{"fixed at the end", ctx, 2 * page, both, iommu.Place{Fixed: true, IOVA: math.MaxUint64 - page + 1}, iommu.ErrRange},
			{"fixed off a page", ctx, page, both, iommu.Place{Fixed: true, IOVA: 100}, iommu.ErrRange},
			{"fixed over a boundary", ctx, 2 * page, both, iommu.Place{Fixed: true, IOVA: 0x1000, Boundary: 0x2000}, iommu.ErrRange},
			{"fixed where something is", ctx, 2 * page, both, iommu.Place{Fixed: true, IOVA: 0xff000}, iommu.ErrOverlap},
			{"fixed where interrupts are", ctx, page, both, iommu.Place{Fixed: true, IOVA: 0xfee00000}, iommu.ErrOverlap},
			{"more than there is", ctx, 1 << 30, both, iommu.Place{}, iommu.ErrMemory},
			{"a context that ended", done, page, both, iommu.Place{}, context.Canceled},
		} {
			_, err := d.Alloc(x.ctx, x.size, x.dir, x.p)
			refused(t, x.what, err, x.want)
		}
		refused(t, "free of nothing", d.Free(nil), iommu.ErrNotMapped)
		refused(t, "free of none", d.Free(&iommu.Buffer{}), iommu.ErrNotMapped)
		refused(t, "close", d.Close(ctx), iommu.ErrMapped)
		ok(t, d.Free(keep))
	})
}

// TestMapWait maps foreign memory, which is registered as long as that lives.
func TestMapWait(t *testing.T) {
	ctx := context.Background()
	domains(t, func(t *testing.T, d *iommu.Domain, dev device) {
		b, err := d.Alloc(ctx, slab, both, iommu.Place{}) // memory to have
		ok(t, err)
		mem := b.Mem
		ok(t, d.Unmap(b.Mapping))
		in, err := d.MapWait(ctx, mem[100:5000], both, iommu.Place{})
		ok(t, err)
		at, err := d.MapWait(ctx, mem[5000:6000], both, iommu.Place{Fixed: true, IOVA: 0x7000000})
		ok(t, err)
		if at.IOVA() != 0x7000000+5000%page || at.Size() != 1000 {
			t.Errorf("%#x bytes at %#x", at.Size(), at.IOVA())
		}
		ok(t, dev.dma(in.IOVA(), []byte("in"), true), dev.dma(at.IOVA(), []byte("at"), true))
		if string(mem[100:102]) != "in" || string(mem[5000:5002]) != "at" {
			t.Error("the device wrote elsewhere")
		}
		ok(t, d.Unmap(at), d.Unmap(in))
		refused(t, "unmap twice", d.Unmap(at), iommu.ErrNotMapped)
		ok(t, d.Flush(ctx))
		if err := dev.dma(at.IOVA(), []byte("at"), true); err == nil {
			t.Error("the device reaches foreign memory after unmap and flush")
		}
		_, err = d.MapWait(ctx, nil, both, iommu.Place{})
		refused(t, "nothing", err, iommu.ErrZeroSize)
		_, err = d.MapWait(ctx, mem, 0, iommu.Place{})
		refused(t, "no direction", err, iommu.ErrDirection)
		_, err = d.MapWait(ctx, mem[:page], both, iommu.Place{Align: 7})
		refused(t, "odd alignment", err, iommu.ErrRange)
		refused(t, "free of an unmapped buffer", d.Free(b), iommu.ErrNotMapped)
	})
}

// TestMapWaitForeign: memory that is not registered.
func TestMapWaitForeign(t *testing.T) {
	ctx := context.Background()
	p := newPre(t, iommu.Options{Bounce: iommu.Bounce{Off: true}})
	mem := p.alloc(2 * slab)
	used := p.k.used()
	var all []iommu.Mapping
	for i := range 3 { // the same page more than once
		m, err := p.d.MapWait(ctx, mem[page+10*i:][:slab], iommu.FromDevice, iommu.Place{})
		ok(t, err)
		ok(t, p.k.dma(m.IOVA(), []byte{byte(i + 1)}, true))
		if mem[page+10*i] != byte(i+1) {
			t.Error("the device wrote elsewhere")
		}
		if err := p.k.dma(m.IOVA(), make([]byte, 1), false); err == nil {
			t.Error("the device reads what it may only write")
		}
		all = append(all, m)
	}
	if n := p.k.used(); n != used+3 {
		t.Errorf("%d mappings, %d before", n, used)
	}
	refused(t, "close", p.d.Close(ctx), iommu.ErrMapped)
	for _, m := range all[1:] {
		ok(t, p.d.Unmap(m))
	}
	ok(t, p.d.Flush(ctx))
	if n := p.k.used(); n != used+1 {
		t.Errorf("%d mappings after the flush, %d before all", n, used)
	}
	ok(t, p.d.Unmap(all[0]))
	eventually(t, "unmap by the worker", func() bool { return p.k.used() == used })

	_, err := p.d.MapWait(ctx, pages(3)[page+1:][:page], both, iommu.Place{})
	refused(t, "what cannot be pinned", err, iommu.ErrMemory)
	done, stop := context.WithCancel(ctx)
	stop()
	_, err = p.d.MapWait(done, mem[:page], both, iommu.Place{})
	refused(t, "a context that ended", err, context.Canceled)
}

// TestMapWaitEmpty waits for a record that somebody else has.
func TestMapWaitEmpty(t *testing.T) {
	p := newPre(t, iommu.Options{MaxMappings: 8})
	mem := p.alloc(slab)
	p.register(mem, both)
	var all []iommu.Mapping
	for {
		m, err := p.d.Map(mem[:page], both)
		if err != nil {
			break
		}
		all = append(all, m)
	}
	got := make(chan error)
	go func() {
		m, err := p.d.MapWait(context.Background(), mem[:page], both, iommu.Place{})
		if err == nil {
			err = p.d.Unmap(m)
		}
		got <- err
	}()
	for _, m := range all {
		ok(t, p.d.Unmap(m))
	}
	if err := <-got; err != nil {
		t.Error(err)
	}
}

func TestPremappedList(t *testing.T) {
	p := newPre(t, iommu.Options{})
	mem := p.alloc(slab)
	p.register(mem[:64*page], both)
	p.register(mem[64*page:128*page], iommu.ToDevice)
	foreign := make([]byte, 5000)
	for i := range foreign {
		foreign[i] = byte(i)
	}
	list := [][]byte{mem[:page], mem[page : 3*page], foreign[100:4000], mem[70*page : 70*page+10], mem[3*page : 4*page]}
	out := make([]iommu.Piece, 8)
	m, n, err := p.d.MapSG(list, iommu.ToDevice, iommu.ListLimits{}, out)
	ok(t, err)
	if n != 4 || out[0].Size != 3*page || out[1].Size != 3900 || out[2].Size != 10 || out[3].IOVA != out[0].IOVA+3*page || m.IOVA() != out[0].IOVA || m.Size() != 4*page+3910 {
		t.Errorf("%d pieces: %+v", n, out[:n])
	}
	got := make([]byte, 3900)
	ok(t, p.k.dma(out[1].IOVA, got, false))
	if got[0] != 100 || got[3899] != foreign[3999] {
		t.Error("the bounced piece has other data")
	}
	foreign[200] = 99
	ok(t, p.d.SyncForDevice(m, 3*page+100, 1), p.k.dma(out[1].IOVA+100, got[:2], false))
	if got[0] != 99 {
		t.Error("the sync of a piece did not reach it")
	}
	ok(t, p.d.Unmap(m))
	refused(t, "unmap twice", p.d.Unmap(m), iommu.ErrNotMapped)

	m, n, err = p.d.MapSG(list[:3], both, iommu.ListLimits{MaxPiece: 2 * page, Boundary: 4 * page}, out)
	ok(t, err)
	for _, x := range out[:n] {
		if x.Size > 2*page || x.IOVA/(4*page) != (x.IOVA+x.Size-1)/(4*page) {
			t.Errorf("%+v", x)
		}
	}
	ok(t, p.k.dma(out[n-1].IOVA+50, []byte("device"), true), p.d.Unmap(m))
	if string(foreign[150:156]) != "device" {
		t.Error("the bounced piece did not come back")
	}
	for _, x := range []struct {
		what string
		list [][]byte
		dir  iommu.Direction
		l    iommu.ListLimits
		out  []iommu.Piece
		want error
	}{
		{"nothing", nil, both, iommu.ListLimits{}, out, iommu.ErrZeroSize},
		{"an empty piece", [][]byte{mem[:page], nil}, both, iommu.ListLimits{}, out, iommu.ErrZeroSize},
		{"no direction", list, 0, iommu.ListLimits{}, out, iommu.ErrDirection},
		{"wrong direction", list, both, iommu.ListLimits{}, out, iommu.ErrDirection},
		{"odd boundary", list, iommu.ToDevice, iommu.ListLimits{Boundary: 3}, out, iommu.ErrSegment},
		{"too little room", list, iommu.ToDevice, iommu.ListLimits{}, out[:3], iommu.ErrPieces},
		{"none", list, iommu.ToDevice, iommu.ListLimits{}, nil, iommu.ErrPieces},
		{"too little room in one region", list[:2], iommu.ToDevice, iommu.ListLimits{MaxPiece: page}, out[:2], iommu.ErrPieces},
		{"too large", [][]byte{make([]byte, 2<<20)}, both, iommu.ListLimits{}, out, iommu.ErrBounce},
	} {
		_, _, err := p.d.MapSG(x.list, x.dir, x.l, x.out)
		refused(t, x.what, err, x.want)
	}
	if live := p.d.Live(); len(live) != 0 {
		t.Errorf("left: %v", live)
	}
}

// TestRegisterWhileClosing: what is registered while the domain is closed is refused or given back.
func TestRegisterWhileClosing(t *testing.T) {
	ctx := context.Background()
	for range 50 {
		p := newFakes(t)
		d, err := iommu.NewPremapped(ctx, p.mem, p.k, iommu.Options{MaxMappings: 64, Bounce: iommu.Bounce{Off: true}})
		ok(t, err)
		mem := p.alloc(slab)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := range 100 {
				if _, err := d.Register(ctx, mem[i*page:][:page], both); err != nil {
					if !errors.Is(err, iommu.ErrClosed) && !errors.Is(err, iommu.ErrBudget) {
						t.Error(err)
					}
					return
				}
			}
		}()
		ok(t, d.Close(ctx))
		<-done
		p.empty()
	}
}

// A buffer whose Free meets a unit that does not answer is freed when the unit does again.
func TestFreeWhenUnitFails(t *testing.T) {
	d, _, r := newBounced(t, iommu.Options{})
	g := &gate{Unit: r.u}
	ok(t, d.Detach(iommu.Device{Source: rigSource, Unit: r.u}), d.Attach(iommu.Device{Source: rigSource, Unit: g}))
	b, err := d.Alloc(t.Context(), page, both, iommu.Place{})
	ok(t, err)
	g.set(func(g *gate) { g.broken, g.stuck = true, true })
	if err := d.Free(b); err == nil {
		t.Fatal("freed while the devices may reach it")
	}
	g.set(func(g *gate) { g.stuck = false })
	ok(t, d.Free(b))
	refused(t, "free twice", d.Free(b), iommu.ErrNotMapped)
}

// What is allocated while the domain is closed is refused or given back.
func TestAllocWhileClosing(t *testing.T) {
	ctx := t.Context()
	for range 50 {
		p := newFakes(t)
		d, err := iommu.NewPremapped(ctx, p.mem, p.k, iommu.Options{MaxMappings: 64, Bounce: iommu.Bounce{Off: true}})
		ok(t, err)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				b, err := d.Alloc(ctx, page, both, iommu.Place{})
				if err == nil {
					err = d.Free(b)
				}
				if errors.Is(err, iommu.ErrClosed) {
					return
				}
				if err != nil && !errors.Is(err, iommu.ErrNotMapped) {
					t.Error(err)
					return
				}
			}
		}()
		for {
			err := d.CloseForced(ctx)
			if err == nil {
				break
			}
			t.Error(err)
		}
		<-done
		p.empty()
	}
}

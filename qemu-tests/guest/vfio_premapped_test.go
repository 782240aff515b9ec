//go:build linux

package guest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gommu/iommu"
	"gommu/vfio"
	"gommu/vfio/edu"
)

// premapped is a domain over the tables of a container with an edu device in it, closed when the test ends: then the kernel has
// as many mappings left as before.
func premapped(t *testing.T, opts iommu.Options) (*iommu.Domain, *iommu.Pages, *edu.Device, *vfio.Container) {
	t.Helper()
	dev := opened(t)
	engine, err := edu.Open(dev, edu.Options{DMAMask: 1<<64 - 1})
	if err != nil {
		t.Fatal(err)
	}
	c := dev.Container()
	before, err := c.Info()
	if err != nil {
		t.Fatal(err)
	}
	mem := &iommu.Pages{}
	d, err := iommu.NewPremapped(t.Context(), mem, c.Mapper(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(engine.Close(), d.Close(context.Background()), mem.Close()); err != nil {
			t.Error(err)
		}
		if after, err := c.Info(); err != nil || after.Entries != before.Entries {
			t.Errorf("%d mappings left, %d before, %v", after.Entries, before.Entries, err)
		}
	})
	return d, mem, engine, c
}

// moves has the device read from and then write to what is mapped: data goes through its buffer.
func moves(t *testing.T, engine *edu.Device, from, to uint64, n int) {
	t.Helper()
	if err := errors.Join(engine.ReadMemory(t.Context(), from, 0, n), engine.WriteMemory(t.Context(), to, 0, n)); err != nil {
		t.Fatal(err)
	}
}

func TestVFIOPremapped(t *testing.T) {
	ctx := t.Context()
	d, mem, engine, _ := premapped(t, iommu.Options{Name: "edu"})
	buf, err := mem.Alloc(ctx, 4<<20)
	if err != nil {
		t.Fatal(err)
	}
	r, err := d.Register(ctx, buf, iommu.Bidirectional)
	if err != nil {
		t.Fatal(err)
	}
	domap := func(mem []byte, dir iommu.Direction) iommu.Mapping {
		t.Helper()
		m, err := d.Map(mem, dir)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	unmap := func(m ...iommu.Mapping) {
		t.Helper()
		if err := d.UnmapBatch(m); err != nil {
			t.Fatal(err)
		}
	}

	// Registered memory, over the border of a superpage.
	const n = 2000
	from, to := buf[2<<20-1000:][:n], buf[3<<20+8:][:n]
	rand.Read(from)
	a, b := domap(from, iommu.ToDevice), domap(to, iommu.FromDevice)
	moves(t, engine, a.IOVA(), b.IOVA(), n)
	if !bytes.Equal(from, to) {
		t.Error("registered memory: the bytes did not come through")
	}
	unmap(a, b)

	// Memory of the Go heap goes through a bounce buffer, and has what the device wrote after a sync and after the unmap.
	in, out := make([]byte, n+100), make([]byte, n+100)
	rand.Read(in)
	a, b = domap(in[50:][:n], iommu.ToDevice), domap(out[50:][:n], iommu.FromDevice)
	moves(t, engine, a.IOVA(), b.IOVA(), n)
	if bytes.Equal(in[50:][:n], out[50:][:n]) {
		t.Error("the device reaches foreign memory itself")
	}
	if err := d.SyncForCPU(b, 100, 200); err != nil || !bytes.Equal(in[150:350], out[150:350]) || bytes.Equal(in[350:50+n], out[350:50+n]) {
		t.Errorf("a part after a sync: %v", err)
	}
	in[60] ^= 1
	if err := d.SyncForDevice(a, 10, 1); err != nil {
		t.Error(err)
	}
	moves(t, engine, a.IOVA(), b.IOVA(), n)
	unmap(a, b)
	if !bytes.Equal(in[50:][:n], out[50:][:n]) || out[49] != 0 || out[50+n] != 0 {
		t.Error("foreign memory: the bytes did not come through")
	}

	// Long-lived memory, at a place.
	low, err := d.Alloc(ctx, 3*4096, iommu.Bidirectional, iommu.Place{Mask: 1<<32 - 1, Align: 1 << 16})
	if err != nil {
		t.Fatal(err)
	}
	fixed, err := d.Alloc(ctx, 2<<20, iommu.Bidirectional, iommu.Place{Fixed: true, IOVA: 1 << 33})
	if err != nil {
		t.Fatal(err)
	}
	rand.Read(low.Mem)
	moves(t, engine, low.IOVA()+4096, fixed.IOVA()+2<<20-n, n)
	if low.IOVA() >= 1<<32 || fixed.IOVA() != 1<<33 || !bytes.Equal(low.Mem[4096:][:n], fixed.Mem[2<<20-n:]) {
		t.Errorf("at %#x and %#x: the bytes did not come through", low.IOVA(), fixed.IOVA())
	}
	if err := errors.Join(d.Free(low), d.Free(fixed)); err != nil {
		t.Error(err)
	}

	// Foreign memory that is pinned for one mapping.
	foreign := pages(t, 3)
	once, err := d.MapWait(ctx, foreign[100:][:2*4096], iommu.Bidirectional, iommu.Place{})
	if err != nil {
		t.Fatal(err)
	}
	rand.Read(foreign)
	moves(t, engine, once.IOVA()+4000, once.IOVA(), n)
	if !bytes.Equal(foreign[4100:][:n], foreign[100:][:n]) {
		t.Error("pinned for one mapping: the bytes did not come through")
	}
	unmap(once)
	if err := d.Flush(ctx); err != nil {
		t.Error(err)
	}

	// Unmapped, the region is in reach; closed, it is not.
	m := domap(buf[:4096], iommu.Bidirectional)
	want(t, "close of what is mapped", r.Close(), iommu.ErrMapped)
	unmap(m)
	clear(buf[:4096])
	moves(t, engine, m.IOVA()+3<<20, m.IOVA(), 64)
	if !bytes.Equal(buf[:64], buf[3<<20:][:64]) {
		t.Error("an unmapped part of a region is not in reach")
	}
	rand.Read(buf[3<<20:][:64])
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	kept := bytes.Clone(buf[:4096])
	if err := engine.WriteMemory(ctx, m.IOVA(), 0, 64); err != nil {
		t.Logf("the device says: %v", err)
	}
	if err := engine.WriteMemory(ctx, once.IOVA(), 0, 64); err != nil {
		t.Logf("the device says: %v", err)
	}
	if !bytes.Equal(kept, buf[:4096]) {
		t.Error("the device reaches a region that was closed")
	}
	if err := mem.Free(buf); err != nil {
		t.Error(err)
	}
}

// TestVFIOPremappedBudget lowers the kernel's limit: the domain warns, then refuses before the kernel does, and
// keeps the kernel's errno where that is first.
func TestVFIOPremappedBudget(t *testing.T) {
	const param = "/sys/module/vfio_iommu_type1/parameters/dma_entry_limit"
	needIOMMU(t)
	former, err := os.ReadFile(param)
	if err != nil {
		t.Skipf("%v: boot this guest with %s", err, vfioDevices)
	}
	if err := os.WriteFile(param, []byte("10"), 0); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := os.WriteFile(param, former, 0); err != nil {
			t.Error(err)
		}
	}()
	var told atomic.Int32
	d, _, _, c := premapped(t, iommu.Options{Bounce: iommu.Bounce{Off: true}, OnBudget: func(used, limit int) {
		if limit == 10 && used >= 8 {
			told.Add(1)
		}
	}})
	ctx := t.Context()
	mem := pages(t, 40)
	register := func(i int) (*iommu.Region, error) {
		return d.Register(ctx, mem[i*2*4096:][:4096], iommu.Bidirectional)
	}
	var regions []*iommu.Region
	for i := range 9 {
		r, err := register(i)
		if err != nil {
			t.Fatal(err)
		}
		regions = append(regions, r)
	}
	other := pages(t, 1)
	if err := c.MapDMA(0x1000, other, vfio.DMARead); err != nil {
		t.Fatal(err)
	}
	_, err = register(9)
	want(t, "one that others have", err, iommu.ErrBudget, "dma_entry_limit")
	want(t, "one that others have", err, unix.ENOSPC)
	if err := c.UnmapDMA(0x1000, 4096); err != nil {
		t.Fatal(err)
	}
	r, err := register(9)
	if err != nil {
		t.Fatal(err)
	}
	_, err = register(10)
	want(t, "one too many", err, iommu.ErrBudget, "the limit is 10")
	for end := time.Now().Add(time.Minute); told.Load() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nobody was told")
		}
	}
	for _, r := range append(regions, r) {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestVFIOPremappedPace says what a mapping of registered memory costs, and what the kernel's calls do.
func TestVFIOPremappedPace(t *testing.T) {
	d, mem, _, c := premapped(t, iommu.Options{Bounce: iommu.Bounce{Off: true}})
	buf, err := mem.Alloc(t.Context(), 2<<20)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Register(t.Context(), buf, iommu.Bidirectional); err != nil {
		t.Fatal(err)
	}
	one := pages(t, 1)
	one[0] = 1
	// The best of 50: others have the processor, too.
	measure := func(n int, f func() error) time.Duration {
		best := time.Hour
		for range 50 {
			start := time.Now()
			for range n {
				if err := f(); err != nil {
					t.Fatal(err)
				}
			}
			best = min(best, time.Since(start)/time.Duration(n))
		}
		return best
	}
	pair := func() error { return errors.Join(c.MapDMA(0x1000, one, vfio.DMARead), c.UnmapDMA(0x1000, 4096)) }
	ours := func() error {
		m, err := d.Map(buf[4096:8192], iommu.ToDevice)
		if err != nil {
			return err
		}
		return d.Unmap(m)
	}
	kernel, own := measure(10, pair), measure(1000, ours)
	t.Logf("map and unmap: %v, the kernel's calls %v: %.2f %%", own, kernel, 100*float64(own)/float64(kernel))
}

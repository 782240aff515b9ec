//go:build linux

package guest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"testing"

	"gommu/internal/held"
	"gommu/pci"
	"gommu/vfio"
	"gommu/vfio/edu"
)

func TestVFIODevice(t *testing.T) {
	d := opened(t)
	id, err := pci.ReadIDs(d.Config())
	if err != nil || id.Vendor != eduVendor || id.Device != eduDevice || d.Config().Size() != pci.ConfigSize {
		t.Errorf("ids %+v, %d bytes of config, %v", id, d.Config().Size(), err)
	}
	caps, err := pci.Capabilities(d.Config())
	if err != nil || !slices.ContainsFunc(caps, func(c pci.Capability) bool { return c.ID == pci.CapMSI }) {
		t.Errorf("capabilities %v, %v; want MSI among them", caps, err)
	}
	if n, err := d.Regions(); err != nil || n < 9 {
		t.Errorf("%d regions, %v", n, err)
	}
	r, err := d.Region(0)
	if err != nil || r.Size != 1<<20 || !r.Readable || !r.Writable || !r.Mapable {
		t.Errorf("region 0: %+v, %v", r, err)
	}
	b, err := d.BAR(0)
	if err != nil {
		t.Fatal(err)
	}
	if v := b.Read32(eduID); v&0xff != 0xed || b.Size() != 1<<20 {
		t.Errorf("identification %#x, size %#x", v, b.Size())
	}
	b.Write32(eduLiveness, 0x12345678)
	if v := b.Read32(eduLiveness); v != ^uint32(0x12345678) {
		t.Errorf("liveness %#x, want the inverse of 0x12345678", v)
	}
	b.Write64(eduSource, 0x1122334455667788)
	if v := b.Read64(eduSource); v != 0x1122334455667788 {
		t.Errorf("64 bits come back as %#x", v)
	}
	if vfioMaps(t) == 0 {
		t.Error("the BAR is not mapped")
	}
	for i := 1; i < 6; i++ {
		_, err := d.BAR(i)
		want(t, "BAR that is not there", err, pci.ErrNoBAR)
	}
	was, err := pci.SetBusMaster(d.Config(), true)
	if err != nil || was {
		t.Errorf("bus master was %v, %v", was, err)
	}
	bars, err := pci.ProbeBARs(d.Config())
	if err != nil || bars[0].Size != 1<<20 {
		t.Errorf("probed BARs %+v, %v", bars, err)
	}
	if v := b.Read32(eduID); v&0xff != 0xed {
		t.Errorf("identification %#x after probing", v)
	}
}

// TestVFIOSmallBAR reads a network card's address through a BAR smaller than a page. The card has one of I/O ports too.
func TestVFIOSmallBAR(t *testing.T) {
	i := findFunction(t, "rtl8139", func(i pci.Info) bool { return i.Vendor == 0x10ec && i.Device == 0x8139 })
	bind(t, i)
	d := open(t, i)
	_, err := d.BAR(0)
	want(t, "a BAR of ports", err, pci.ErrIOPorts)
	b, err := d.BAR(1)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the BAR is mapped %d times", vfioMaps(t))
	const low, high = 0x33221102, 0x5544 // 02:11:22:33:44:55
	if b.Size() != 256 || b.Read32(0) != low || b.Read32(4)&0xffff != high || b.Read64(0)&(1<<48-1) != high<<32|low {
		t.Errorf("%d bytes, address %#x %#x, %#x", b.Size(), b.Read32(0), b.Read32(4), b.Read64(0))
	}
}

func TestVFIOReset(t *testing.T) {
	d := opened(t)
	b, err := d.BAR(0)
	if err != nil {
		t.Fatal(err)
	}
	// QEMU's edu has neither a function level reset nor a bus of its own.
	if err := d.Reset(); d.CanReset() && err != nil || !d.CanReset() && !errors.Is(err, pci.ErrNoReset) {
		t.Errorf("can reset: %v; %v", d.CanReset(), err)
	}
	if v := b.Read32(eduID); v&0xff != 0xed {
		t.Errorf("identification %#x", v)
	}
}

// TestVFIOSysfs reads the same device through sysfs: the other implementation of pci.Function.
func TestVFIOSysfs(t *testing.T) {
	i, _ := findEdu(t, true)
	before := held.Now(t)
	f, err := pci.Open(i.Address)
	if err != nil {
		t.Fatal(err)
	}
	if id, err := pci.ReadIDs(f.Config()); err != nil || id.Device != eduDevice {
		t.Errorf("ids %+v, %v", id, err)
	}
	if res, err := (pci.Sysfs{}).Resources(i.Address); err != nil || res[0].Size != 1<<20 {
		t.Errorf("resources %+v, %v", res, err)
	}
	b, err := f.BAR(0)
	if err != nil {
		t.Fatal(err)
	}
	b.Write32(eduLiveness, 7)
	if b.Read32(eduID)&0xff != 0xed || b.Read32(eduLiveness) != ^uint32(7) {
		t.Errorf("identification %#x, liveness %#x", b.Read32(eduID), b.Read32(eduLiveness))
	}
	if err := f.Reset(); err != nil && !errors.Is(err, pci.ErrNoReset) {
		t.Errorf("reset: %v", err)
	}
	if err := errors.Join(f.Close(), f.Close()); err != nil {
		t.Errorf("closing: %v", err)
	}
	held.Check(t, before)
}

func TestVFIOInterrupts(t *testing.T) {
	d := opened(t)
	ctx := t.Context()
	b, err := d.BAR(0)
	if err != nil {
		t.Fatal(err)
	}
	for kind, count := range map[vfio.IRQKind]int{vfio.INTx: 1, vfio.MSI: 1, vfio.MSIX: 0} {
		if i, err := d.IRQInfo(kind); err != nil || i.Count != count {
			t.Errorf("%v: %+v, %v; want %d", kind, i, err, count)
		}
	}
	_, err = d.EnableIRQ(vfio.MSIX, 1)
	want(t, "MSI-X", err, vfio.ErrNoIRQ)
	_, err = d.EnableIRQ(vfio.MSI, 2)
	want(t, "two MSI of one", err, vfio.ErrNoIRQ)
	if _, err := pci.SetBusMaster(d.Config(), true); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []vfio.IRQKind{vfio.MSI, vfio.INTx, vfio.MSI} {
		irqs, err := d.EnableIRQ(kind, 1)
		if err != nil {
			t.Fatal(err)
		}
		irq := irqs[0]
		if _, err := d.EnableIRQ(kind, 1); !errors.Is(err, vfio.ErrIRQEnabled) {
			t.Errorf("%v enabled twice: %v", kind, err)
		}
		const rounds = 5
		for n := range uint64(rounds) {
			if n == 0 { // the kernel's loopback
				if err := irq.Trigger(); err != nil {
					t.Fatalf("%v trigger: %v", kind, err)
				}
			} else {
				b.Write32(eduRaise, 1)
			}
			if err := irq.Wait(ctx); err != nil {
				t.Fatalf("%v: %v", kind, err)
			}
			if irq.Count() != n+1 {
				t.Errorf("%v fired %d times, want %d", kind, irq.Count(), n+1)
			}
			b.Write32(eduAck, 1) // the next Wait unmasks an INTx
			if kind == vfio.INTx && n == 0 {
				// The loopback masked nothing: unmasking late would deliver what is raised before a second time.
				if err := irq.Unmask(); err != nil {
					t.Fatal(err)
				}
			}
		}
		ended, cancel := context.WithCancel(ctx)
		got := make(chan error)
		go func() { got <- irq.Wait(ended) }()
		cancel()
		if err := <-got; err != context.Canceled {
			t.Errorf("%v: waiting with a context that ends: %v", kind, err)
		}
		go func() { got <- irq.Wait(ctx) }()
		if err := d.DisableIRQ(kind); err != nil {
			t.Error(err)
		}
		want(t, "wait over disabling", <-got, vfio.ErrClosed)
	}
}

// TestVFIOEduInterrupts: interrupts of this package's kind end the edu driver's transfers, a pin's too.
func TestVFIOEduInterrupts(t *testing.T) {
	d := opened(t)
	mem := pages(t, 1)
	const iova = 0x100000
	if err := d.Container().MapDMA(iova, mem, vfio.DMARead|vfio.DMAWrite); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []vfio.IRQKind{vfio.INTx, vfio.MSI} {
		irqs, err := d.EnableIRQ(kind, 1)
		if err != nil {
			t.Fatal(err)
		}
		engine, err := edu.Open(d, edu.Options{Interrupt: irqs[0]})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			rand.Read(mem[:512])
			if err := errors.Join(engine.ReadMemory(t.Context(), iova, 0, 512), engine.WriteMemory(t.Context(), iova+1024, 0, 512)); err != nil {
				t.Fatalf("%v: %v", kind, err)
			}
			if !bytes.Equal(mem[:512], mem[1024:1536]) {
				t.Errorf("%v: the bytes did not come through", kind)
			}
		}
		if n := irqs[0].Count(); n != 4 {
			t.Errorf("%v fired %d times, want 4", kind, n)
		}
		if err := errors.Join(engine.Close(), d.DisableIRQ(kind)); err != nil {
			t.Error(err)
		}
	}
}

// TestVFIODMA has the device copy random bytes through two mappings, and nothing through a third that is gone.
func TestVFIODMA(t *testing.T) {
	d := opened(t)
	c := d.Container()
	b, err := d.BAR(0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pci.SetBusMaster(d.Config(), true); err != nil {
		t.Fatal(err)
	}
	irqs, err := d.EnableIRQ(vfio.MSI, 1)
	if err != nil {
		t.Fatal(err)
	}
	dma := func(from, to, n uint64, command uint32) {
		t.Helper()
		b.Write64(eduSource, from)
		b.Write64(eduTarget, to)
		b.Write64(eduCount, n)
		b.Write32(eduCommand, 1|command|4)
		if err := irqs[0].Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.Write32(eduAck, 1<<31-1)
	}
	const in, out, n = 0x100000, 0x7f_0000_0000, 1024
	src, dst := pages(t, 1), pages(t, 1)
	rand.Read(src)
	if err := errors.Join(c.MapDMA(in, src, vfio.DMARead), c.MapDMA(out, dst, vfio.DMAWrite)); err != nil {
		t.Fatal(err)
	}
	dma(in+64, eduBuffer, n, 0)
	dma(eduBuffer, out+128, n, 2)
	if !bytes.Equal(src[64:64+n], dst[128:128+n]) || bytes.Count(dst, []byte{0}) < 4096-n {
		t.Error("the bytes did not come through, or went elsewhere")
	}
	if err := c.UnmapDMA(out, 4096); err != nil {
		t.Fatal(err)
	}
	clear(dst)
	dma(eduBuffer, out, n, 2)
	if bytes.Count(dst, []byte{0}) != 4096 {
		t.Error("the device wrote memory that was taken away from it")
	}
}

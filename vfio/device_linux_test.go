package vfio

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"gommu/pci"
)

func TestDeviceConfig(t *testing.T) {
	_, d, f := opened(t)
	if d.Address() != edu || d.Config().Size() != 256 || d.Group().ID() != 3 {
		t.Errorf("address %v, config of %d bytes, group %d", d.Address(), d.Config().Size(), d.Group().ID())
	}
	if id, err := pci.ReadIDs(d.Config()); err != nil || id.Vendor != 0x1234 || id.Device != 0x11e8 {
		t.Errorf("ids %+v, %v", id, err)
	}
	if was, err := pci.SetBusMaster(d.Config(), true); was || err != nil || f.regions[7].mem[4]&4 == 0 {
		t.Errorf("SetBusMaster: was %v, %v", was, err)
	}
	_, err := d.Config().Read(254, 4)
	expect(t, "past the end", err, pci.ErrBadConfig)
	expect(t, "misaligned", d.Config().Write(1, 2, 0), pci.ErrBadConfig)
}

func TestDeviceBAR(t *testing.T) {
	k, d, f := opened(t)
	b, err := d.BAR(0)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := d.BAR(0); err != nil || again != b || b.Size() != 1<<20 {
		t.Errorf("opened again: same %v, size %#x, %v", again == b, b.Size(), err)
	}
	b.Write32(0x80, 0x11223344)
	b.Write64(0x88, 1<<40)
	if got := f.regions[0].mem[0x80:0x90]; !cmp.Equal(got, cat(words(0x11223344, 0), w64(1<<40))) || f.regions[0].files != 0 {
		t.Errorf("the device has %x, %d accesses through the file", got, f.regions[0].files)
	}
	for i, want := range map[int]error{-1: pci.ErrNoBAR, 1: pci.ErrIOPorts, 3: pci.ErrNoBAR, 6: pci.ErrNoBAR} {
		_, err := d.BAR(i)
		expect(t, "BAR", err, want)
	}

	// Around the MSI-X table, and in a small BAR, accesses go through the file.
	for i, file := range map[int]map[uint64]bool{2: {0: false, 0xff8: false, 0x1000: true, 0x1ff8: true, 0x2000: false, 0x3ff8: false}, 4: {0: true, 56: true}} {
		b, err := d.BAR(i)
		if err != nil {
			t.Fatal(err)
		}
		r := f.regions[i]
		for off, through := range file {
			before := r.files
			b.Write32(off, 0xdeadbeef)
			b.Write64(off, 0x0102030405060708)
			if got := b.Read64(off); got != 0x0102030405060708 || ne.Uint64(r.mem[off:]) != got || b.Read32(off) != 0x05060708 {
				t.Errorf("BAR %d at %#x reads %#x", i, off, got)
			}
			if got := r.files > before; got != through {
				t.Errorf("BAR %d at %#x: through the file %v, want %v", i, off, got, through)
			}
		}
		for _, off := range []uint64{b.Size(), b.Size() - 4, 4, 1 << 63} {
			if !panics(func() { b.Read64(off) }) {
				t.Errorf("BAR %d at %#x: no panic", i, off)
			}
		}
	}
	small, _ := d.BAR(4)
	k.failAt, k.fail = k.n+1, unix.EIO
	if got := small.Read32(0); got != 1<<32-1 {
		t.Errorf("a failing access reads %#x, want all ones", got)
	}
	if len(k.maps) != 3 {
		t.Errorf("%d mappings, want 3", len(k.maps))
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	for _, x := range []pci.BAR{b, small} {
		if !panics(func() { x.Read32(0) }) || !panics(func() { x.Write32(0, 0) }) {
			t.Error("a BAR of a closed device can be used")
		}
	}
}

func panics(f func()) (did bool) {
	defer func() { did = recover() != nil }()
	f()
	return false
}

func TestDeviceRegions(t *testing.T) {
	_, d, _ := opened(t)
	if n, err := d.Regions(); err != nil || n != 9 {
		t.Errorf("%d regions, %v", n, err)
	}
	r, err := d.Region(2)
	if err != nil || r.Size != 0x4000 || !r.Mapable || !cmp.Equal(r.Areas, []Area{{0, 0x1000}, {0x2000, 0x2000}}) {
		t.Errorf("region 2: %+v, %v", r, err)
	}
	_, err = d.Region(9)
	expect(t, "region that is not there", err, unix.EINVAL)
}

func TestDeviceCloseStops(t *testing.T) {
	k, opts := setUp(t)
	f := k.groups[3].devices[edu.String()]
	for _, flags := range []uint32{deviceFlagPCI | deviceFlagReset, deviceFlagPCI} {
		f.flags, f.resets = flags, 0
		d, err := Open(edu, opts)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := pci.SetBusMaster(d.Config(), true); err != nil {
			t.Fatal(err)
		}
		if _, err := d.EnableIRQ(MSIX, 3); err != nil {
			t.Fatal(err)
		}
		can := flags&deviceFlagReset != 0
		if err := d.Reset(); can != (err == nil) || !can && !errors.Is(err, pci.ErrNoReset) || d.CanReset() != can {
			t.Errorf("reset: %v", err)
		}
		// The fake kernel objects to closing a device that is bus master or has interrupts enabled.
		for range 2 {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		}
		if can && f.resets != 2 {
			t.Errorf("%d resets, want one asked for and one when closed", f.resets)
		}
		k.checkEmpty()
		expect(t, "reset of a closed device", d.Reset(), ErrClosed)
		_, err = d.BAR(0)
		expect(t, "BAR of a closed device", err, ErrClosed)
		_, err = d.Config().Read(0, 4)
		expect(t, "config of a closed device", err, ErrClosed)
		_, err = d.EnableIRQ(MSI, 1)
		expect(t, "interrupt of a closed device", err, ErrClosed)
		_, err = d.IRQInfo(MSI)
		expect(t, "interrupts of a closed device", err, ErrClosed)
		_, err = d.Region(0)
		expect(t, "region of a closed device", err, ErrClosed)
		_, err = d.Regions()
		expect(t, "regions of a closed device", err, ErrClosed)
	}
}

func TestDeviceGone(t *testing.T) {
	_, d, f := opened(t)
	f.gone = true
	if _, err := d.BAR(0); !errors.Is(err, pci.ErrIOPorts) && !errors.Is(err, pci.ErrNoAnswer) {
		t.Errorf("BAR of a device that has gone: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Errorf("closing a device that has gone: %v", err)
	}
}

func TestInterrupts(t *testing.T) {
	_, d, f := opened(t)
	if i, err := d.IRQInfo(INTx); err != nil || i != (IRQInfo{Count: 1, EventFD: true, Maskable: true, Automasked: true}) {
		t.Errorf("INTx: %+v, %v", i, err)
	}
	if i, err := d.IRQInfo(MSI); err != nil || i != (IRQInfo{Count: 4, EventFD: true, NoResize: true}) {
		t.Errorf("MSI: %+v, %v", i, err)
	}
	irqs, err := d.EnableIRQ(MSI, 4)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if err := errors.Join(irqs[2].Trigger(), irqs[2].Trigger(), irqs[2].Wait(ctx)); err != nil {
		t.Fatal(err)
	}
	if irqs[2].Count() != 2 || irqs[2].Index() != 2 || irqs[1].Count() != 0 {
		t.Errorf("counts %d and %d", irqs[2].Count(), irqs[1].Count())
	}
	got := make(chan error)
	go func() { got <- irqs[0].Wait(ctx) }()
	if err := errors.Join(f.signal(int(MSI), 0), <-got); err != nil {
		t.Error(err)
	}
	expect(t, "mask of an MSI", irqs[0].Mask(), unix.EINVAL)
	_, err = d.EnableIRQ(INTx, 1)
	expect(t, "a second kind", err, ErrIRQEnabled, "MSI")
	go func() { got <- irqs[3].Wait(ctx) }()
	for range 2 {
		if err := d.DisableIRQ(MSI); err != nil {
			t.Error(err)
		}
	}
	expect(t, "wait over disabling", <-got, ErrClosed)
	expect(t, "wait after disabling", irqs[3].Wait(ctx), ErrClosed)
	expect(t, "trigger after disabling", irqs[3].Trigger(), ErrClosed)

	x, err := d.EnableIRQ(INTx, 1)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // each is let through again by hand
		if err := errors.Join(x[0].Trigger(), x[0].Wait(ctx), x[0].Trigger(), x[0].Unmask()); err != nil {
			t.Fatal(err)
		}
	}
	if x[0].Count() != 3 {
		t.Errorf("%d INTx, want 3: those raised while masked are not delivered", x[0].Count())
	}
	if err := x[0].Mask(); err != nil {
		t.Error(err)
	}
	expect(t, "an interrupt of before", irqs[0].Trigger(), ErrClosed)
}

// TestInterruptUnmask: an INTx fires again without Unmask when Wait is called again, and not before; one that the
// caller masked stays masked.
func TestInterruptUnmask(t *testing.T) {
	k, d, f := opened(t)
	irqs, err := d.EnableIRQ(INTx, 1)
	if err != nil {
		t.Fatal(err)
	}
	i, ended := irqs[0], func() context.Context {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		return ctx
	}()
	for n := range uint64(3) {
		got := make(chan error)
		go func() { got <- i.Wait(t.Context()) }()
		for f.isMasked(k) { // until Wait has let it through
			runtime.Gosched()
		}
		if err := errors.Join(i.Trigger(), <-got); err != nil || i.Count() != n+1 {
			t.Fatalf("%v; fired %d times, want %d", err, i.Count(), n+1)
		}
		if err := i.Wait(ended); err != context.Canceled || !f.isMasked(k) {
			t.Errorf("a Wait that does not wait: %v, masked %v", err, f.isMasked(k))
		}
	}
	k.failAt, k.fail = k.n+1, unix.EIO
	expect(t, "failing to unmask", i.Wait(t.Context()), unix.EIO)
	k.failAt = 0
	if err := i.Mask(); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Write(f.enabled[int(INTx)][0], w64(1)); err != nil { // one that came before the mask
		t.Fatal(err)
	}
	if err := i.Wait(t.Context()); err != nil || !f.isMasked(k) {
		t.Errorf("Wait: %v; it let an interrupt through that its user had masked: %v", err, !f.isMasked(k))
	}
}

func TestInterruptErrors(t *testing.T) {
	_, d, f := opened(t)
	fds := openFiles(t)
	for _, n := range []int{-1, 0, 5} {
		_, err := d.EnableIRQ(MSI, n)
		expect(t, "count", err, ErrNoIRQ, "4")
	}
	f.vectors = 2
	_, err := d.EnableIRQ(MSI, 3)
	expect(t, "the host has fewer", err, ErrNoIRQ, "can give 2")
	if _, err := d.IRQInfo(IRQKind(9)); !errors.Is(err, unix.EINVAL) || IRQKind(9).String() != "interrupt kind 9" {
		t.Errorf("unknown kind: %v", err)
	}
	if got := openFiles(t); got != fds {
		t.Errorf("%d files left", got-fds)
	}
}

// TestInterruptContext ends waits by their contexts, many at once, while interrupts come in. No wait may take
// another's deadline for its own.
func TestInterruptContext(t *testing.T) {
	_, d, _ := opened(t)
	irqs, err := d.EnableIRQ(MSI, 1)
	if err != nil {
		t.Fatal(err)
	}
	i := irqs[0]
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := i.Trigger(); err != nil {
		t.Fatal(err)
	}
	if err := i.Wait(ended); err != context.Canceled {
		t.Errorf("context ended before: %v", err)
	}
	if err := i.Wait(t.Context()); err != nil {
		t.Errorf("the interrupt that came before: %v", err)
	}
	var wg sync.WaitGroup
	for range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		wg.Go(func() {
			if err := i.Wait(ctx); err != context.Canceled && err != nil {
				t.Error(err)
			}
		})
		wg.Go(cancel)
	}
	done := make(chan error)
	go func() { done <- i.Wait(t.Context()) }()
	wg.Wait()
	if err := errors.Join(i.Trigger(), <-done); err != nil || i.Count() != 2 {
		t.Errorf("%v; the interrupt fired %d times, want 2: one at first, one at last", err, i.Count())
	}
}

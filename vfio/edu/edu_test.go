package edu_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"gommu/pci"
	"gommu/vfio/edu"
)

// A fakeEdu is a function with the device's registers, its own memory instead
// of the world's, and switches for what goes wrong.
type fakeEdu struct {
	mu     sync.Mutex
	config [256]byte
	regs   map[uint64]uint64
	buffer [4096]byte
	memory map[uint64]byte // by IOVA, when the function is bus master

	slow     int // how many looks a transfer lasts
	looks    int
	silent   bool // no interrupt arrives
	accesses int
	goneAt   int // all ones from this access on; 0 is never
	broken   bool
	barSize  uint64
	raised   chan struct{}
}

func newFake() *fakeEdu {
	f := &fakeEdu{regs: map[uint64]uint64{}, memory: map[uint64]byte{}, barSize: 1 << 20, raised: make(chan struct{}, 1)}
	copy(f.config[:], []byte{0x34, 0x12, 0xe8, 0x11})
	return f
}

func (f *fakeEdu) Address() pci.Address { return pci.Address{Device: 3} }
func (f *fakeEdu) Config() pci.Config   { return (*fakeConfig)(f) }
func (f *fakeEdu) Reset() error         { return pci.ErrNoReset }
func (f *fakeEdu) Close() error         { return nil }
func (f *fakeEdu) Size() uint64         { return f.barSize }
func (f *fakeEdu) BAR(i int) (pci.BAR, error) {
	if i != 0 || f.barSize == 0 {
		return nil, pci.ErrNoBAR
	}
	return f, nil
}

type fakeConfig fakeEdu

func (c *fakeConfig) Size() int { return 256 }

func (c *fakeConfig) Read(off, width int) (v uint32, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := (*fakeEdu)(c); f.goneAt != 0 && f.accesses >= f.goneAt {
		return math.MaxUint32 >> (32 - 8*width), nil
	}
	for i := range width {
		v |= uint32(c.config[off+i]) << (8 * i)
	}
	return v, pci.CheckAccess(256, off, width)
}

func (c *fakeConfig) Write(off, width int, v uint32) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range width {
		c.config[off+i] = byte(v >> (8 * i))
	}
	return pci.CheckAccess(256, off, width)
}

func (f *fakeEdu) master() bool { f.mu.Lock(); defer f.mu.Unlock(); return f.config[4]&4 != 0 }

func (f *fakeEdu) gone() bool {
	f.accesses++
	return f.goneAt != 0 && f.accesses >= f.goneAt
}

func (f *fakeEdu) Read32(off uint64) uint32 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if off >= 0x80 {
		panic("addresses need 8 bytes")
	}
	if f.gone() {
		return math.MaxUint32
	}
	switch off {
	case 0:
		return 0x010000ed
	case 4:
		if f.broken {
			return 0
		}
		return ^uint32(f.regs[4])
	}
	return uint32(f.regs[off])
}

func (f *fakeEdu) Write32(off uint64, v uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.gone() {
		return
	}
	switch off {
	case 4:
		f.regs[4] = uint64(v)
	case 8:
		n := uint32(1)
		for ; v > 0; v-- {
			n *= v
		}
		f.regs[8] = uint64(n)
	case 0x64:
		f.regs[0x24] &^= uint64(v)
	default:
		panic(fmt.Sprintf("4-byte write of %#x", off))
	}
}

func (f *fakeEdu) Read64(off uint64) uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if off < 0x80 {
		panic("only 4 bytes are allowed here")
	}
	if f.gone() {
		return math.MaxUint64
	}
	if off == 0x98 && f.regs[0x98]&1 != 0 {
		if f.looks++; f.looks > f.slow {
			f.finish()
		}
	}
	return f.regs[off]
}

func (f *fakeEdu) Write64(off uint64, v uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if off < 0x80 {
		panic("only 4 bytes are allowed here")
	}
	if f.gone() {
		return
	}
	if f.regs[0x98]&1 != 0 {
		panic("a register was written during a transfer")
	}
	f.regs[off] = v
	if off == 0x98 {
		f.looks = 0
		if v&4 != 0 {
			f.finish()
		}
	}
}

// finish does the transfer.
func (f *fakeEdu) finish() {
	src, dst, n := f.regs[0x80], f.regs[0x88], f.regs[0x90]
	command := f.regs[0x98]
	f.regs[0x98] &^= 1
	master := f.config[4]&4 != 0
	for i := range n {
		switch {
		case command&2 == 0 && master:
			f.buffer[dst-0x40000+i] = f.memory[src+i]
		case master:
			f.memory[dst+i] = f.buffer[src-0x40000+i]
		}
	}
	if dma := max(src, dst) - 0x40000; command&2 == 0 && dst-0x40000+n >= 4096 || command&2 != 0 && src-0x40000+n >= 4096 {
		panic(fmt.Sprintf("QEMU 7.2 would end here: %#x %d", dma, n))
	}
	if command&4 != 0 && !f.silent {
		f.regs[0x24] |= 0x100
		select {
		case f.raised <- struct{}{}:
		default:
		}
	}
}

// Wait makes the fake its own interrupt.
func (f *fakeEdu) Wait(ctx context.Context) error {
	select {
	case <-f.raised:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func open(t testing.TB, f *fakeEdu, opts edu.Options) *edu.Device {
	t.Helper()
	d, err := edu.Open(f, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func Example() {
	f := newFake() // stands for what vfio, sysfs or qtest open
	copy128 := func(d *edu.Device, from, to uint64) error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := d.ReadMemory(ctx, from, 0, 128); err != nil {
			return err
		}
		return d.WriteMemory(ctx, to, 0, 128)
	}
	d, err := edu.Open(f, edu.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer d.Close()
	fmt.Println(copy128(d, 0x1000, 0x2000))
	fmt.Println(copy128(d, 0x1000, 1<<28-1))
	// Output:
	// <nil>
	// edu: write memory iova 0xfffffff size 128 buffer offset 0: iova is beyond the device's DMA mask 0xfffffff
}

func TestTransfer(t *testing.T) {
	for name, withInterrupt := range map[string]bool{"polling": false, "interrupt": true} {
		t.Run(name, func(t *testing.T) {
			f := newFake()
			f.slow = 100
			var opts edu.Options
			if withInterrupt {
				opts.Interrupt = f
			}
			d := open(t, f, opts)
			want := []byte("some bytes")
			for i, b := range want {
				f.memory[0x1000+uint64(i)] = b
			}
			if err := d.ReadMemory(t.Context(), 0x1000, 100, len(want)); err != nil {
				t.Fatal(err)
			}
			if err := d.WriteMemory(t.Context(), 0x2000, 102, 4); err != nil {
				t.Fatal(err)
			}
			var got []byte
			for i := range uint64(5) {
				got = append(got, f.memory[0x2000+i])
			}
			if !bytes.Equal(got, []byte("me b\x00")) {
				t.Errorf("memory has %q", got)
			}
			if f.regs[0x24] != 0 {
				t.Error("the interrupt was not acknowledged")
			}
		})
	}
}

func TestLimits(t *testing.T) {
	f := newFake()
	d := open(t, f, edu.Options{})
	wide := open(t, newFake(), edu.Options{DMAMask: math.MaxUint64})
	cases := []struct {
		d    *edu.Device
		iova uint64
		off  int
		n    int
		want error
	}{
		{d, 0, 0, 0, edu.ErrBuffer}, {d, 0, 0, -1, edu.ErrBuffer}, {d, 0, -1, 1, edu.ErrBuffer},
		{d, 0, 0, 4096, edu.ErrBuffer}, {d, 0, 4095, 1, edu.ErrBuffer}, {d, 0, 1, 4095, edu.ErrBuffer},
		{d, 0, math.MaxInt, 1, edu.ErrBuffer}, {d, 0, 1, math.MaxInt, edu.ErrBuffer}, {d, 0, math.MinInt, math.MaxInt, edu.ErrBuffer},
		{d, 0, 0, 4095, nil}, {d, 0, 4094, 1, nil},
		{d, 1 << 28, 0, 1, edu.ErrMask}, {d, 1<<28 - 1, 0, 2, edu.ErrMask}, {d, 1<<28 - 1, 0, 1, nil},
		{wide, math.MaxUint64, 0, 2, edu.ErrMask}, {wide, math.MaxUint64, 0, 1, nil},
	}
	for _, c := range cases {
		for _, transfer := range []func(context.Context, uint64, int, int) error{c.d.ReadMemory, c.d.WriteMemory} {
			if err := transfer(t.Context(), c.iova, c.off, c.n); !errors.Is(err, c.want) {
				t.Errorf("iova %#x off %d n %d: %v, want %v", c.iova, c.off, c.n, err, c.want)
			}
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	cases := []struct {
		name string
		set  func(f *fakeEdu)
		want error
	}{
		{"other device", func(f *fakeEdu) { f.config[2] = 1 }, edu.ErrNotEdu},
		{"nothing there", func(f *fakeEdu) { f.config[0], f.config[1] = 0xff, 0xff }, pci.ErrNoAnswer},
		{"no BAR", func(f *fakeEdu) { f.barSize = 0 }, pci.ErrNoBAR},
		{"small BAR", func(f *fakeEdu) { f.barSize = 0x80 }, edu.ErrNotEdu},
		{"dead", func(f *fakeEdu) { f.broken = true }, edu.ErrNotAlive},
	}
	for _, c := range cases {
		f := newFake()
		c.set(f)
		d, err := edu.Open(f, edu.Options{})
		if d != nil || !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
		if _, ok := errors.AsType[*edu.OpError](err); !ok {
			t.Errorf("%s: %T", c.name, err)
		}
		if f.master() {
			t.Errorf("%s: bus mastering was left on", c.name)
		}
	}
}

func TestBusMaster(t *testing.T) {
	f := newFake()
	d := open(t, f, edu.Options{})
	if !f.master() {
		t.Error("bus mastering is off in an open device")
	}
	for range 2 {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
	if f.master() {
		t.Error("bus mastering is on after Close")
	}
	for _, err := range []error{d.ReadMemory(t.Context(), 0, 0, 1), d.Idle(t.Context())} {
		if !errors.Is(err, edu.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	}
	if _, err := d.Factorial(t.Context(), 3); !errors.Is(err, edu.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestCancelled(t *testing.T) {
	f := newFake()
	f.slow = math.MaxInt
	d := open(t, f, edu.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := d.ReadMemory(ctx, 0x1000, 0, 8); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a transfer that does not end: %v", err)
	}
	if err := d.WriteMemory(t.Context(), 0x1000, 0, 8); !errors.Is(err, edu.ErrBusy) {
		t.Errorf("during a transfer: %v", err)
	}
	if err := d.Idle(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting for it: %v", err)
	}
	f.mu.Lock()
	f.slow = 0
	f.mu.Unlock()
	if err := d.Idle(t.Context()); err != nil {
		t.Error(err)
	}
	if err := d.WriteMemory(t.Context(), 0x1000, 0, 8); err != nil {
		t.Error(err)
	}
}

// TestCloseEndsTransfer closes the device while another goroutine waits.
func TestCloseEndsTransfer(t *testing.T) {
	for name, withInterrupt := range map[string]bool{"polling": false, "interrupt": true} {
		t.Run(name, func(t *testing.T) {
			f := newFake()
			var opts edu.Options
			if withInterrupt {
				opts.Interrupt = never{}
			} else {
				f.slow = math.MaxInt
			}
			d := open(t, f, opts)
			done := make(chan error)
			go func() { done <- d.ReadMemory(context.Background(), 0x1000, 0, 8) }()
			for { // until it is under way
				f.mu.Lock()
				started := f.regs[0x98] != 0
				f.mu.Unlock()
				if started {
					break
				}
			}
			if err := d.Idle(t.Context()); !errors.Is(err, edu.ErrBusy) {
				t.Errorf("meanwhile: %v", err)
			}
			if err := d.Close(); err != nil {
				t.Error(err)
			}
			if err := <-done; !errors.Is(err, edu.ErrClosed) {
				t.Errorf("the transfer: %v", err)
			}
		})
	}
}

type never struct{}

func (never) Wait(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

// TestGone takes the device away at each access in turn.
func TestGone(t *testing.T) {
	for _, withInterrupt := range []bool{false, true} {
		for n := 1; ; n++ {
			f := newFake()
			f.goneAt = n
			var opts edu.Options
			if withInterrupt {
				opts.Interrupt = f
			}
			d, err := edu.Open(f, opts)
			if err != nil {
				if !errors.Is(err, edu.ErrGone) && !errors.Is(err, edu.ErrNotAlive) && !errors.Is(err, pci.ErrNoAnswer) {
					t.Errorf("gone at access %d: %v", n, err)
				}
				continue
			}
			err = d.ReadMemory(t.Context(), 0x1000, 0, 8)
			v, ferr := d.Factorial(t.Context(), 3)
			if ferr == nil && v != 6 && v != 0 { // 0 if only the write was lost
				t.Errorf("gone at access %d: 3! = %d", n, v)
			}
			for _, err := range []error{err, ferr} {
				if err != nil && !errors.Is(err, edu.ErrGone) {
					t.Errorf("gone at access %d: %v", n, err)
				}
			}
			if err := d.Close(); err != nil {
				t.Errorf("gone at access %d: close: %v", n, err)
			}
			if f.accesses < n {
				if err != nil || ferr != nil {
					t.Errorf("without a loss: %v %v", err, ferr)
				}
				break
			}
		}
	}
}

func TestInterruptMissing(t *testing.T) {
	f := newFake()
	f.silent = true
	d := open(t, f, edu.Options{Interrupt: f})
	if err := d.ReadMemory(t.Context(), 0x1000, 0, 8); !errors.Is(err, edu.ErrNoInterrupt) {
		t.Errorf("got %v", err)
	}
	broken := errors.New("eventfd broke")
	d = open(t, newFake(), edu.Options{Interrupt: failing{broken}})
	if err := d.ReadMemory(t.Context(), 0x1000, 0, 8); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

type failing struct{ err error }

func (f failing) Wait(context.Context) error { return f.err }

// TestStaleInterrupt begins with an interrupt that nobody waited for.
func TestStaleInterrupt(t *testing.T) {
	f := newFake()
	d := open(t, f, edu.Options{Interrupt: f})
	f.raised <- struct{}{}
	for range 3 {
		if err := d.ReadMemory(t.Context(), 0x1000, 0, 8); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFactorial(t *testing.T) {
	d := open(t, newFake(), edu.Options{})
	if v, err := d.Factorial(t.Context(), 5); v != 120 || err != nil {
		t.Errorf("5! = %d, %v", v, err)
	}
}

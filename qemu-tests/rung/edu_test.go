package rung

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"

	"gommu/pci"
	"gommu/vfio/edu"
)

// A fakeMemory is the world of a device: some bytes from IOVA 0x1000 on.
type fakeMemory struct {
	mu       sync.Mutex
	mem      [8192]byte
	messages chan uint32 // what was written to fakeMSI
	gate     chan struct{}
}

const (
	fakeBase = 0x1000
	fakeMSI  = 0x7_0000_0000
)

var errBlocked = errors.New("blocked")

func (m *fakeMemory) Read(iova uint64, dst []byte) error {
	return m.do(iova, len(dst), func(mem []byte) { copy(dst, mem) })
}

func (m *fakeMemory) Write(iova uint64, src []byte) error {
	if iova == fakeMSI {
		m.messages <- uint32(src[0]) | uint32(src[1])<<8
		return nil
	}
	return m.do(iova, len(src), func(mem []byte) { copy(mem, src) })
}

func (m *fakeMemory) do(iova uint64, n int, f func([]byte)) error {
	if m.gate != nil {
		<-m.gate
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if iova < fakeBase || iova-fakeBase > uint64(len(m.mem)-n) {
		return errBlocked
	}
	f(m.mem[iova-fakeBase:][:n])
	return nil
}

// Wait makes the messages an interrupt.
func (m *fakeMemory) Wait(ctx context.Context) error {
	select {
	case <-m.messages:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func newFakeMemory() *fakeMemory { return &fakeMemory{messages: make(chan uint32, 8)} }

// openEdu opens the driver over the emulated device, with its MSI at fakeMSI.
func openEdu(t *testing.T, m *fakeMemory, o edu.Options) (*edu.Device, *Edu) {
	t.Helper()
	e := NewEdu(m, pci.Address{Device: 3})
	c, err := pci.FindCapability(e.Config(), pci.CapMSI, false)
	if err != nil || c.Offset != configMSI {
		t.Fatalf("MSI at %#x, %v", c.Offset, err)
	}
	const low, high, data, control = configMSI + 4, configMSI + 8, configMSI + 12, configMSI + 2
	for _, w := range []struct {
		off, width int
		v          uint32
	}{{low, 4, fakeMSI & 0xffffffff}, {high, 4, fakeMSI >> 32}, {data, 2, 0x1234}, {control, 2, 1}} {
		if err := e.Config().Write(w.off, w.width, w.v); err != nil {
			t.Fatal(err)
		}
	}
	d, err := edu.Open(e, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(d.Close(), e.Close(), e.Close()); err != nil {
			t.Error(err)
		}
	})
	return d, e
}

// TestEduTransfers: the driver moves bytes both ways, by polling and by interrupts.
func TestEduTransfers(t *testing.T) {
	for name, interrupt := range map[string]bool{"polling": false, "interrupt": true} {
		t.Run(name, func(t *testing.T) {
			m := newFakeMemory()
			o := edu.Options{DMAMask: ^uint64(0)}
			if interrupt {
				o.Interrupt = m
			}
			d, e := openEdu(t, m, o)
			for i := range m.mem[:4096] {
				m.mem[i] = byte(i*7 + 1)
			}
			for _, n := range []int{1, 255, 256, 257, edu.MaxTransfer} {
				clear(m.mem[4096:])
				if err := d.ReadMemory(t.Context(), fakeBase, 0, n); err != nil {
					t.Fatal(err)
				}
				if err := d.WriteMemory(t.Context(), fakeBase+4096, 0, n); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(m.mem[4096:][:n], m.mem[:n]) || m.mem[4096+n] != 0 {
					t.Errorf("%d bytes did not arrive, or more did", n)
				}
			}
			regs, _ := e.BAR(0)
			if v := regs.Read32(eduCauses); v != 0 {
				t.Errorf("causes %#x are left", v)
			}
		})
	}
}

// TestEduBlocked: what is blocked moves nothing and ends all the same.
func TestEduBlocked(t *testing.T) {
	d, _ := openEdu(t, newFakeMemory(), edu.Options{})
	if err := errors.Join(d.WriteMemory(t.Context(), 0x9000_00, 0, 64), d.ReadMemory(t.Context(), 0, 0, 64)); err != nil {
		t.Error(err)
	}
}

// TestEduComputes: factorial, interrupts that are raised by hand, and what the function says of itself.
func TestEduComputes(t *testing.T) {
	m := newFakeMemory()
	d, e := openEdu(t, m, edu.Options{})
	for n, want := range map[uint32]uint32{0: 1, 5: 120, 12: 479001600, 1 << 31: 0} {
		if v, err := d.Factorial(t.Context(), n); v != want || err != nil {
			t.Errorf("%d! = %d, %v", n, v, err)
		}
	}
	regs, _ := e.BAR(0)
	regs.Write32(eduRaise, 5)
	if v := <-m.messages; v != 0x1234 || regs.Read32(eduCauses) != 5 {
		t.Errorf("message %#x, causes %#x", v, regs.Read32(eduCauses))
	}
	regs.Write32(eduAck, 5)
	bars, err := pci.ProbeBARs(e.Config())
	if err != nil || bars[0].Size != regs.Size() {
		t.Errorf("BARs %+v, %v", bars, err)
	}
	if _, err := e.BAR(1); !errors.Is(err, pci.ErrNoBAR) {
		t.Errorf("BAR 1: %v", err)
	}
	if err := e.Reset(); !errors.Is(err, pci.ErrNoReset) {
		t.Errorf("reset: %v", err)
	}
}

// TestEduStopped: when Close of the driver has returned, an engine that was under way
// touches nothing.
func TestEduStopped(t *testing.T) {
	m := newFakeMemory()
	m.gate = make(chan struct{})
	d, e := openEdu(t, m, edu.Options{DMAMask: ^uint64(0)})
	done := make(chan error)
	go func() { done <- d.WriteMemory(context.Background(), fakeBase, 0, 4000) }()
	m.gate <- struct{}{} // one piece is done
	closed := make(chan error)
	go func() { closed <- d.Close() }()
	for ended := 0; ended < 2; { // until Close has had its turn
		select {
		case m.gate <- struct{}{}:
		case err := <-done:
			if !errors.Is(err, edu.ErrClosed) {
				t.Errorf("the transfer: %v", err)
			}
			ended++
		case err := <-closed:
			if err != nil {
				t.Error(err)
			}
			ended++
			closed = nil
		}
	}
	if err := e.Close(); err != nil { // waits for the engine, which finds mastering off
		t.Error(err)
	}
}

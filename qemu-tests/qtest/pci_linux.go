package qtest

import (
	"fmt"
	"strings"
	"sync"

	"gommu/pci"
)

// Places in the machine's address space that firmware would have chosen. RAM
// ends at 2 GiB at the latest, the I/O APIC is at 0xfec00000.
const (
	ecamBase = 0xb000_0000 // configuration space, 256 MiB
	firstBAR = 0xe000_0000
	lastBAR  = 0xfec0_0000
)

// q35's host bridge, and its register for ecamBase (82Q35 datasheet, PCIEXBAR:
// bit 0 enables; bits 2:1 = 0 is 256 MiB).
const (
	configAddress = 0xcf8
	configData    = 0xcfc
	regPCIEXBAR   = 0x60
)

// regBAR0 is the first base address register in configuration space.
const regBAR0 = 0x10

// PCI opens the function at address a, doing what firmware does: its memory
// BARs are sized, given addresses if they have none, and switched on. It fails if
// nothing answers at a, and says what does. Open a function once at a time:
// closing it ends the bus mastering of all who opened it.
func (m *Machine) PCI(a pci.Address) (pci.Function, error) {
	if err := m.Err(); err != nil {
		return nil, err
	}
	m.pciMu.Lock()
	defer m.pciMu.Unlock()
	m.enableECAM()
	there := a.Domain == 0 && a.Device < 32 && a.Function < 8 && m.present(a)
	if err := m.Err(); err != nil {
		return nil, err
	}
	if !there {
		return nil, &OpError{Op: "open", Target: a.String(), Err: pci.ErrNotFound, Remedy: m.functions()}
	}
	f := &function{m: m, addr: a, cfg: &config{m: m, base: ecam(a), size: pci.ExtendedConfigSize}}
	if v := m.Read(f.cfg.base+pci.ConfigSize, 4); v == mask(4) { // not PCI Express
		f.cfg.size = pci.ConfigSize
	}
	if err := f.assignBARs(); err != nil {
		return nil, &OpError{Op: "open", Target: a.String(), Err: err}
	}
	return f, nil
}

// enableECAM makes configuration space plain memory.
func (m *Machine) enableECAM() {
	if m.ecam {
		return
	}
	m.outl(configAddress, 1<<31|regPCIEXBAR+4)
	m.outl(configData, 0)
	m.outl(configAddress, 1<<31|regPCIEXBAR)
	m.outl(configData, ecamBase|1)
	m.ecam = true
}

// ecam is where a function's configuration space is.
func ecam(a pci.Address) uint64 { return ecamBase + uint64(a.RequesterID())<<12 }

func (m *Machine) present(a pci.Address) bool {
	return uint16(m.Read(ecam(a), 4)) != 0xffff
}

// functions lists bus 0 for an error message.
func (m *Machine) functions() string {
	var there []string
	for d := range uint8(32) {
		if a := (pci.Address{Device: d}); m.present(a) {
			there = append(there, a.String())
		}
	}
	return "bus 0 has " + strings.Join(there, ", ")
}

// function is a pci.Function over the socket.
type function struct {
	m       *Machine
	addr    pci.Address
	cfg     *config
	bars    [6]pci.BARInfo
	windows [6]*Window // nil where there is no memory BAR
	close   sync.Once
}

func (f *function) Address() pci.Address { return f.addr }
func (f *function) Config() pci.Config   { return f.cfg }

func (f *function) BAR(i int) (pci.BAR, error) {
	err := pci.ErrNoBAR
	if i >= 0 && i < len(f.windows) {
		if w := f.windows[i]; w != nil {
			return w, nil
		}
		if f.bars[i].IO {
			err = pci.ErrIOPorts
		}
	}
	return nil, &OpError{Op: "open BAR", Target: fmt.Sprintf("%d of %v", i, f.addr), Err: err}
}

// Reset is not available: none of QEMU's devices used here implements a
// function level reset, and qtest offers none from outside.
func (f *function) Reset() error {
	return &OpError{Op: "reset", Target: f.addr.String(), Err: pci.ErrNoReset, Remedy: "start another machine"}
}

// Close switches off the function's bus mastering.
func (f *function) Close() (err error) {
	f.close.Do(func() {
		if f.m.Err() == nil { // else it has gone, and masters no bus
			_, err = pci.SetBusMaster(f.cfg, false)
		}
	})
	return err
}

// assignBARs sizes the BARs, places the memory BARs and switches them on.
func (f *function) assignBARs() (err error) {
	if f.bars, err = pci.ProbeBARs(f.cfg); err != nil {
		return err
	}
	for i, b := range f.bars {
		if b.Size == 0 || b.IO {
			continue
		}
		if b.Base == 0 {
			if b.Base, err = f.m.place(b.Size); err != nil {
				return fmt.Errorf("BAR %d: %w", i, err)
			}
			f.cfg.write(regBAR0+4*i, 4, b.Base)
			if b.Is64 {
				f.cfg.write(regBAR0+4*i+4, 4, b.Base>>32)
			}
		}
		f.windows[i] = &Window{f.m, b.Base, b.Size}
	}
	_, err = pci.SetMemoryDecode(f.cfg, true)
	return err
}

// place finds an address for size bytes (a power of two). Nothing is given back.
func (m *Machine) place(size uint64) (uint64, error) {
	base := (m.nextBAR + size - 1) &^ (size - 1)
	if size > lastBAR-firstBAR || base > lastBAR-size {
		return 0, fmt.Errorf("no room for %#x bytes of registers below %#x", size, lastBAR)
	}
	m.nextBAR = base + size
	return base, nil
}

// config is a function's configuration space, as memory.
type config struct {
	m    *Machine
	base uint64
	size int
}

func (c *config) Size() int { return c.size }

func (c *config) Read(off, width int) (uint32, error) {
	if err := pci.CheckAccess(c.size, off, width); err != nil {
		return ^uint32(0), &OpError{Op: "read configuration", Err: err}
	}
	v := c.m.Read(c.base+uint64(off), width)
	return uint32(v), c.m.Err()
}

func (c *config) Write(off, width int, v uint32) error {
	if err := pci.CheckAccess(c.size, off, width); err != nil {
		return &OpError{Op: "write configuration", Err: err}
	}
	c.write(off, width, uint64(v))
	return c.m.Err()
}

func (c *config) write(off, width int, v uint64) { c.m.Write(c.base+uint64(off), width, v) }

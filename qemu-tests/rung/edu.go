package rung

import (
	"encoding/binary"
	"runtime"
	"sync"

	"gommu/pci"
	"gommu/vfio/edu"
)

// DMA is what a device does to memory. An error is what it does not learn: that
// its access was blocked.
type DMA interface {
	Read(iova uint64, dst []byte) error
	Write(iova uint64, src []byte) error
}

// An Edu is QEMU's edu device (docs/specs/edu.rst) in this process: its
// configuration space, its registers, and an engine that copies between its
// buffer and memory while this process goes on, some bytes at a time. It has
// an MSI and no pin. It is a pci.Function, and safe for several goroutines.
type Edu struct {
	dma     DMA
	address pci.Address

	mu      sync.Mutex // held while the engine moves some bytes, too
	config  [pci.ConfigSize]byte
	regs    map[uint64]uint64
	buffer  [edu.BufferSize]byte
	running sync.WaitGroup
}

var _ pci.Function = (*Edu)(nil)

// Places in configuration space, and bits there.
const (
	configCommand = 0x04
	configBAR     = 0x10
	configMSI     = 0x40
	commandMaster = 1 << 2
	msiEnable     = 1 << 0
	eduBAR        = 1 << 20 // bytes
)

// Registers of the device.
const (
	eduID        = 0x00
	eduAlive     = 0x04
	eduFactorial = 0x08
	eduCauses    = 0x24
	eduRaise     = 0x60
	eduAck       = 0x64
	eduSource    = 0x80
	eduDest      = 0x88
	eduCount     = 0x90
	eduCommand   = 0x98

	eduBuffer = 0x40000 // where transfers name the buffer
	eduDone   = 0x100   // cause: a transfer has ended

	eduRun, eduToMemory, eduInterrupt = 1 << 0, 1 << 1, 1 << 2
)

// eduPiece is how much the engine moves at once, so that what happens meanwhile
// meets transfers that are under way.
const eduPiece = 256

// NewEdu returns a device in the state after a reset.
func NewEdu(dma DMA, at pci.Address) *Edu {
	e := &Edu{dma: dma, address: at, regs: make(map[uint64]uint64)}
	put := func(off int, v uint32) { binary.LittleEndian.PutUint32(e.config[off:], v) }
	put(0x00, edu.DeviceID<<16|edu.VendorID)
	put(configCommand, 1<<20) // it has capabilities
	put(0x08, 0x00ff0010)     // class: none
	put(0x34, configMSI)
	put(configMSI, 1<<23|uint32(pci.CapMSI)) // addresses of 64 bits, one message
	return e
}

func (e *Edu) Address() pci.Address { return e.address }
func (e *Edu) Config() pci.Config   { return (*eduConfig)(e) }
func (e *Edu) Reset() error         { return pci.ErrNoReset }

func (e *Edu) BAR(i int) (pci.BAR, error) {
	if i != 0 {
		return nil, pci.ErrNoBAR
	}
	return (*eduWindow)(e), nil
}

// Close ends the device's bus mastering and waits for its engine.
func (e *Edu) Close() error {
	_, err := pci.SetBusMaster(e.Config(), false)
	e.running.Wait()
	return err
}

// start is called with the command register written. The caller holds mu.
func (e *Edu) start() {
	t := transfer{
		memory: e.regs[eduSource], buffer: e.regs[eduDest] - eduBuffer, n: e.regs[eduCount],
		command: e.regs[eduCommand],
	}
	if t.command&eduToMemory != 0 {
		t.memory, t.buffer = e.regs[eduDest], e.regs[eduSource]-eduBuffer
	}
	e.running.Go(func() { e.run(t) })
}

// A transfer is one run of the engine.
type transfer struct{ memory, buffer, n, command uint64 }

func (e *Edu) run(t transfer) {
	inside := t.n <= edu.BufferSize && t.buffer <= edu.BufferSize-t.n
	for off := uint64(0); inside && off < t.n; off += eduPiece {
		e.move(t, off, min(eduPiece, t.n-off))
		runtime.Gosched()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.regs[eduCommand] &^= eduRun
	if t.command&eduInterrupt != 0 {
		e.raise(eduDone)
	}
}

// move does some bytes of a transfer. What is blocked reads as zeros, which
// the unit sees to.
func (e *Edu) move(t transfer, off, n uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.master() {
		return
	}
	piece := e.buffer[t.buffer+off:][:n]
	if t.command&eduToMemory != 0 {
		_ = e.dma.Write(t.memory+off, piece)
	} else {
		_ = e.dma.Read(t.memory+off, piece)
	}
}

func (e *Edu) master() bool { return e.config[configCommand]&commandMaster != 0 }

// raise sets causes and sends the message, if that is on.
func (e *Edu) raise(causes uint64) {
	e.regs[eduCauses] |= causes
	c := e.config[configMSI:]
	if c[2]&msiEnable == 0 || !e.master() {
		return
	}
	var message [4]byte
	copy(message[:], c[12:14])
	_ = e.dma.Write(binary.LittleEndian.Uint64(c[4:]), message[:])
}

// eduConfig is the configuration space.
type eduConfig Edu

func (c *eduConfig) Size() int { return len(c.config) }

func (c *eduConfig) Read(off, width int) (uint32, error) {
	if err := pci.CheckAccess(len(c.config), off, width); err != nil {
		return ^uint32(0), err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var v [4]byte
	copy(v[:], c.config[off:off+width])
	return binary.LittleEndian.Uint32(v[:]), nil
}

// Write changes the bits that can be written.
func (c *eduConfig) Write(off, width int, v uint32) error {
	if err := pci.CheckAccess(len(c.config), off, width); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range width {
		b, can := byte(v>>(8*i)), configWritable[off+i]
		c.config[off+i] = c.config[off+i]&^can | b&can
	}
	return nil
}

// configWritable are the bits of configuration space that software can change.
var configWritable = func() (w [pci.ConfigSize]byte) {
	w[configCommand], w[configCommand+1] = 7, 4
	binary.LittleEndian.PutUint32(w[configBAR:], ^uint32(eduBAR-1))
	w[configMSI+2] = msiEnable
	for i := configMSI + 4; i < configMSI+14; i++ {
		w[i] = 0xff
	}
	w[configMSI+4] = 0xfc
	return w
}()

// eduWindow is BAR 0.
type eduWindow Edu

func (w *eduWindow) Size() uint64 { return eduBAR }

func (w *eduWindow) Read32(off uint64) uint32 {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch off {
	case eduID:
		return 0x010000ed
	case eduAlive:
		return ^uint32(w.regs[eduAlive])
	default:
		return uint32(w.regs[off])
	}
}

func (w *eduWindow) Write32(off uint64, v uint32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch off {
	case eduAlive:
		w.regs[off] = uint64(v)
	case eduFactorial:
		n := uint32(1)
		for ; v > 0 && n != 0; v-- { // 34! is a multiple of 2^32
			n *= v
		}
		w.regs[off] = uint64(n)
	case eduRaise:
		(*Edu)(w).raise(uint64(v))
	case eduAck:
		w.regs[eduCauses] &^= uint64(v)
	}
}

func (w *eduWindow) Read64(off uint64) uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.regs[off]
}

// Write64 ignores what meets a transfer, as the device does.
func (w *eduWindow) Write64(off, v uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if off < eduSource || off > eduCommand || w.regs[eduCommand]&eduRun != 0 {
		return
	}
	w.regs[off] = v
	if off == eduCommand && v&eduRun != 0 {
		(*Edu)(w).start()
	}
}

package vfio

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"gommu/pci"
)

// A bar is an open BAR. Where the kernel lets its pages be mapped an access is one load or store; elsewhere (what a
// VFIO driver holds back, the MSI-X table's page before Linux 4.16, a BAR that shares its page with others) it is one
// system call, and the kernel may make two transactions of a 64-bit access.
type bar struct {
	d     *Device
	size  uint64
	base  int64 // of the region in the device's file
	areas []*mapped

	mu     sync.RWMutex // held for reading by accesses that use the file
	closed bool
}

// A mapped is a part of a BAR that is mapped.
type mapped struct {
	off uint64
	mem []byte // whole pages
	*pci.Window
}

// BAR opens base address register i, and turns the device's memory decoding on: without it the kernel answers accesses
// with SIGBUS. Errors: pci.ErrNoBAR, pci.ErrIOPorts, ErrClosed.
func (d *Device) BAR(i int) (pci.BAR, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	fail := func(err error) (pci.BAR, error) { return nil, d.error(fmt.Sprintf("open BAR %d of", i), err) }
	if d.closed {
		return fail(ErrClosed)
	}
	if i < 0 || i >= len(d.bars) {
		return fail(pci.ErrNoBAR)
	}
	if d.bars[i] != nil {
		return d.bars[i], nil
	}
	r, err := d.region(uint32(i))
	if err != nil {
		return fail(err)
	}
	if r.Size == 0 {
		return fail(pci.ErrNoBAR)
	}
	cfg := lockedConfig{d.cfg}
	reg, err := cfg.Read(0x10+4*i, 4)
	if err != nil {
		return fail(err)
	}
	if reg&1 != 0 {
		return fail(pci.ErrIOPorts)
	}
	if _, err := pci.SetMemoryDecode(cfg, true); err != nil {
		return fail(err)
	}
	b := &bar{d: d, size: r.Size, base: int64(r.offset)}
	if err := b.mapAreas(r); err != nil {
		return fail(errors.Join(err, b.unmap()))
	}
	d.bars[i] = b
	return b, nil
}

// mapAreas maps what the kernel lets be mapped.
func (b *bar) mapAreas(r RegionInfo) error {
	if !r.Mapable {
		return nil
	}
	areas := r.Areas
	if len(areas) == 0 {
		areas = []Area{{0, r.Size}}
	}
	for _, a := range areas {
		if a.Offset%pageSize != 0 {
			continue // reached through the file
		}
		length := (a.Size + pageSize - 1) &^ (pageSize - 1)
		mem, err := b.d.sys.mmap(b.d.fd, b.base+int64(a.Offset), int(length))
		if err != nil {
			return fmt.Errorf("mapping %#x bytes at %#x: %w", a.Size, a.Offset, err)
		}
		w, err := pci.NewWindow(mem[:a.Size])
		b.areas = append(b.areas, &mapped{off: a.Offset, mem: mem, Window: w})
		if err != nil {
			return err
		}
	}
	return nil
}

// unmap closes the BAR. It waits for accesses through the file.
func (b *bar) unmap() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	var errs []error
	for _, a := range b.areas {
		if a.Window != nil {
			a.Close()
		}
		errs = append(errs, b.d.sys.munmap(a.mem))
	}
	return errors.Join(errs...)
}

// Size is the number of bytes.
func (b *bar) Size() uint64 { return b.size }

// find is the mapped part that holds width bytes at off, or nil. It panics outside the BAR.
func (b *bar) find(off, width uint64) *mapped {
	if off > b.size || b.size-off < width || off%width != 0 {
		panic(fmt.Sprintf("vfio: %d-byte access at offset %#x of a BAR of %#x bytes: out of range or misaligned", width, off, b.size))
	}
	for _, a := range b.areas {
		if off >= a.off && off-a.off < a.Size() {
			return a
		}
	}
	return nil
}

func (b *bar) Read32(off uint64) uint32 {
	if a := b.find(off, 4); a != nil {
		return a.Read32(off - a.off)
	}
	var v [4]byte
	b.file(b.d.sys.pread, v[:], off)
	return binary.LittleEndian.Uint32(v[:])
}

func (b *bar) Write32(off uint64, v uint32) {
	if a := b.find(off, 4); a != nil {
		a.Write32(off-a.off, v)
		return
	}
	b.file(b.d.sys.pwrite, binary.LittleEndian.AppendUint32(nil, v), off)
}

func (b *bar) Read64(off uint64) uint64 {
	if a := b.find(off, 8); a != nil {
		return a.Read64(off - a.off)
	}
	var v [8]byte
	b.file(b.d.sys.pread, v[:], off)
	return binary.LittleEndian.Uint64(v[:])
}

func (b *bar) Write64(off uint64, v uint64) {
	if a := b.find(off, 8); a != nil {
		a.Write64(off-a.off, v)
		return
	}
	b.file(b.d.sys.pwrite, binary.LittleEndian.AppendUint64(nil, v), off)
}

// file makes one access through the device's file. What fails reads as all ones, as on the bus; a closed BAR panics.
func (b *bar) file(do func(int, []byte, int64) (int, error), v []byte, off uint64) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.closed {
		panic("vfio: access of a closed BAR")
	}
	if n, err := do(b.d.fd, v, b.base+int64(off)); err != nil || n != len(v) {
		for i := range v {
			v[i] = 0xff
		}
	}
}

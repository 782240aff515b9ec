package qtest

import "fmt"

// iommuBase is where QEMU's q35 has its only VT-d unit (its DMAR table says so).
const (
	iommuBase = 0xfed9_0000
	iommuSize = 0x1000
)

// A Window is a range of device registers. It is a pci.BAR and a
// vtd.Registers. Accesses are naturally aligned and inside the window; others
// panic. A machine that is gone reads as all ones.
//
//gommu:maysleep an access is a message over a socket
type Window struct {
	m    *Machine
	base uint64
	size uint64
}

// IOMMU is the window of the VT-d unit's registers.
func (m *Machine) IOMMU() *Window { return &Window{m, iommuBase, iommuSize} }

// Base is the window's physical address.
func (w *Window) Base() uint64 { return w.base }

// Size is the number of bytes in the window.
func (w *Window) Size() uint64 { return w.size }

// Read32 reads the 4 bytes at off.
func (w *Window) Read32(off uint64) uint32 { return uint32(w.m.Read(w.at(off, 4), 4)) }

// Write32 writes the 4 bytes at off.
func (w *Window) Write32(off uint64, v uint32) { w.m.Write(w.at(off, 4), 4, uint64(v)) }

// Read64 reads the 8 bytes at off.
func (w *Window) Read64(off uint64) uint64 { return w.m.Read(w.at(off, 8), 8) }

// Write64 writes the 8 bytes at off.
func (w *Window) Write64(off uint64, v uint64) { w.m.Write(w.at(off, 8), 8, v) }

// at is the physical address of an access.
func (w *Window) at(off, width uint64) uint64 {
	if off%width != 0 || off > w.size-width {
		panic(fmt.Sprintf("qtest: access of %d bytes at offset %#x of a window of %#x bytes", width, off, w.size))
	}
	return w.base + off
}

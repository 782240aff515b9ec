package pci

// A Function is one PCI function, reached through sysfs, VFIO or QEMU's qtest
// socket. Its methods may sleep. Close gives up everything that it opened.
type Function interface {
	// Address is the function's domain, bus, device and function number as the
	// machine that it sits in numbers them.
	Address() Address

	// Config is the function's configuration space.
	Config() Config

	// BAR opens base address register i (0 to 5). The same BAR opened twice is
	// the same window. It is an error if the function does not implement it or
	// if it decodes I/O ports.
	BAR(i int) (BAR, error)

	// Reset resets the function (function level reset or what the transport has
	// instead). BARs stay open; config space is as after the transport's reset.
	Reset() error

	// Close closes all BARs and the function. Twice is harmless.
	Close() error
}

// Config is configuration space: 256 bytes, or 4096 for PCI Express. Accesses
// are naturally aligned, little endian.
type Config interface {
	// Size is the number of bytes that can be reached.
	Size() int
	// Read reads width (1, 2 or 4) bytes at offset off.
	Read(off, width int) (uint32, error)
	// Write writes width (1, 2 or 4) bytes at offset off.
	Write(off, width int, v uint32) error
}

// BAR is a window of device registers. Offsets are in bytes and naturally aligned;
// an access outside the window panics as a slice access does. The accesses are single bus transactions in program
// order. A device that has gone reads as all ones, as it does on the bus; no
// other error is reported.
type BAR interface {
	Size() uint64
	Read32(off uint64) uint32
	Write32(off uint64, v uint32)
	Read64(off uint64) uint64
	Write64(off uint64, v uint64)
}

package pci

import "fmt"

// A Window is a BAR over memory that somebody has mapped: the pages of a device, or ordinary
// memory in a test. Its accesses are single loads and stores, in program order; they are
// safe to make at once from several goroutines.
type Window struct {
	mem []byte
}

var _ BAR = (*Window)(nil)

// NewWindow returns the window over mem, whose first byte must lie on a multiple of eight.
// The window does not own mem.
func NewWindow(mem []byte) (*Window, error) {
	if len(mem) > 0 && !aligned8(mem) {
		return nil, &OpError{Op: "new window", Err: fmt.Errorf("%w: the memory is not aligned to 8 bytes", ErrBadBAR)}
	}
	return &Window{mem: mem}, nil
}

// Size is the number of bytes in the window; zero when it is closed.
func (w *Window) Size() uint64 { return uint64(len(w.mem)) }

// Read32 reads four bytes at off.
//
//gommu:nosleep
func (w *Window) Read32(off uint64) uint32 { return load32(w.mem, off) }

// Write32 writes four bytes at off.
//
//gommu:nosleep
func (w *Window) Write32(off uint64, v uint32) { store32(w.mem, off, v) }

// Read64 reads eight bytes at off.
//
//gommu:nosleep
func (w *Window) Read64(off uint64) uint64 { return load64(w.mem, off) }

// Write64 writes eight bytes at off.
//
//gommu:nosleep
func (w *Window) Write64(off uint64, v uint64) { store64(w.mem, off, v) }

// Close empties the window: every later access panics instead of touching memory that may
// have been unmapped. It must come after the last access.
func (w *Window) Close() { w.mem = nil }

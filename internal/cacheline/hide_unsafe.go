package cacheline

import "unsafe"

// hide returns words without the compiler seeing it. So what callers flush, and
// with it all that hangs on the same variables, need not be on the heap because
// a watcher could keep it.
func hide(words []uint64) []uint64 {
	p := uintptr(unsafe.Pointer(unsafe.SliceData(words)))
	return unsafe.Slice(*(**uint64)(unsafe.Pointer(&p)), len(words))
}

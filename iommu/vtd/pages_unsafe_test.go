package vtd_test

import (
	"unsafe"

	"gommu/pagetable"
)

// pages is memory for n frames, aligned as frames are.
func pages(n int) []byte {
	raw := make([]byte, (n+1)*pagetable.FrameSize)
	skip := -uintptr(unsafe.Pointer(&raw[0])) % pagetable.FrameSize
	return raw[skip:][:n*pagetable.FrameSize]
}

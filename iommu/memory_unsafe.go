package iommu

import "unsafe"

// addressOf is where mem starts in this process. Memory of regions does not move.
//
//gommu:nosleep
func addressOf(mem []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(mem))) }

// wordsOf is mem as words, with what is missing at both ends for whole ones. They lie in the same cache lines.
//
//gommu:nosleep
func wordsOf(mem []byte) []uint64 {
	p := unsafe.Pointer(unsafe.SliceData(mem))
	before := uintptr(p) & 7
	return unsafe.Slice((*uint64)(unsafe.Add(p, -int(before))), (before+uintptr(len(mem))+7)/8)
}

// pagesOf is the whole pages that mem lies in. It is for memory outside of the Go heap.
func pagesOf(mem []byte) []byte {
	p := unsafe.Pointer(unsafe.SliceData(mem))
	before := uintptr(p) & pageMask
	return unsafe.Slice((*byte)(unsafe.Add(p, -int(before))), (before+uintptr(len(mem))+pageMask)&^pageMask)
}

package iommu_test

import "unsafe"

// pages is memory for n pages, aligned as pages are.
func pages(n int) []byte {
	raw := make([]byte, (n+1)*page)
	skip := -uintptr(unsafe.Pointer(&raw[0])) % page
	return raw[skip:][:n*page]
}

func addr(mem []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(mem))) }

package model_test

import "unsafe"

// words is b, which is aligned, as words.
func words(b []byte) []uint64 {
	return unsafe.Slice((*uint64)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/8)
}

// frames is memory for n pages, aligned as these are.
func frames(n int) []byte {
	raw := make([]byte, (n+1)*4096)
	skip := -uintptr(unsafe.Pointer(unsafe.SliceData(raw))) % 4096
	return raw[skip:][:n*4096]
}

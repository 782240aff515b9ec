package vfio

import "unsafe"

// bytesOf is the memory of *p, a structure of uapi.go.
func bytesOf[T any](p *T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(p)), unsafe.Sizeof(*p))
}

// sizeOf is the size of a structure of uapi.go.
func sizeOf[T any]() int {
	var v T
	return int(unsafe.Sizeof(v))
}

// addressOf is where mem starts in this process. The kernel is told this number: mem must not move.
func addressOf(mem []byte) uintptr {
	return uintptr(unsafe.Pointer(unsafe.SliceData(mem)))
}

// pointerTo is the start of arg as a pointer: the caller turns it into an integer in the expression of the system
// call itself, which is what keeps the memory alive and in place meanwhile (package unsafe, rule 4).
func pointerTo(arg []byte) unsafe.Pointer {
	return unsafe.Pointer(unsafe.SliceData(arg))
}

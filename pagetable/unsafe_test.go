package pagetable

import "unsafe"

// address is where b begins.
func address(b []byte) int { return int(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) }

// offset is where p points in b.
func offset(b []byte, p *uint64) int { return int(uintptr(unsafe.Pointer(p))) - address(b) }

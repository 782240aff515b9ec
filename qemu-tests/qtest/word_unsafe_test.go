//go:build linux

package qtest_test

import "unsafe"

// word is a 4-byte word of RAM that hardware writes.
func (r *rig) word(phys uint64) *uint32 {
	return (*uint32)(unsafe.Pointer(&r.m.RAM()[phys]))
}

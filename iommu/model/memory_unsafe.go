package model

import "unsafe"

// view is b as words.
func view(b []byte) []uint64 {
	return unsafe.Slice((*uint64)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/8)
}

func aligned(b []byte) bool {
	return uintptr(unsafe.Pointer(unsafe.SliceData(b)))%8 == 0
}

// lines are the indices in ram, from first to before last, of the words in the
// cache lines that hold words. They are empty if that is elsewhere.
func lines(ram, words []uint64) (first, last int) {
	const size = 64
	if len(words) == 0 {
		return 0, 0
	}
	start := uintptr(unsafe.Pointer(unsafe.SliceData(ram)))
	end := start + uintptr(len(ram))*8
	from := uintptr(unsafe.Pointer(unsafe.SliceData(words)))
	to := (from + uintptr(len(words))*8 + size - 1) &^ (size - 1)
	from = max(from&^(size-1), start)
	to = min(to, end)
	if from >= to {
		return 0, 0
	}
	return int((from - start) / 8), int((to - start) / 8)
}

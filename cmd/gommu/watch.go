//go:build linux

package main

import "bytes"

// A watch counts how much of a stretch of memory changes.
type watch struct {
	mem    []byte
	before []byte // mem at the last look
}

// A span is a part of it, in bytes from its start.
type span struct{ start, size uint64 }

// changed counts the bytes that differ from the last look, but for those in
// the given spans. The first look finds nothing changed.
func (w *watch) changed(except ...span) int {
	now, before := bytes.Clone(w.mem), w.before
	w.before = now
	if before == nil {
		return 0
	}
	for _, s := range except {
		copy(before[s.start:][:s.size], now[s.start:])
	}
	if bytes.Equal(before, now) {
		return 0
	}
	n := 0
	for i := range now {
		if now[i] != before[i] {
			n++
		}
	}
	return n
}

// Package procpin keeps a goroutine on its processor for a few instructions, so that
// what belongs to a processor can be touched without atomic operations.
//
// A pinned goroutine is not preempted: it must not block, and does little. Pins nest.
package procpin

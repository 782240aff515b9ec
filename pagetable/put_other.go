//go:build !amd64 || race

package pagetable

import "sync/atomic"

// put stores v with one 8-byte store. What was stored before it is seen before
// it.
func put(p *uint64, v uint64) { atomic.StoreUint64(p, v) }

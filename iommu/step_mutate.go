//go:build mutate

package iommu

import "sync/atomic"

// left is the step that is left out, plus one; 0 is none.
var left atomic.Int32

// came are the steps that a domain came to.
var came [steps]atomic.Bool

func keep(s step) bool {
	came[s].Store(true)
	return left.Load() != int32(s)+1
}

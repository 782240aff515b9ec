//go:build mutate

package vtd

import "sync/atomic"

// Left is the step that is left out, plus one; 0 is none.
var left atomic.Int32

// Observe, if set, is called between two ordered steps.
var observe atomic.Pointer[func()]

func keep(p point) bool { return left.Load() != int32(p)+1 }

func between(point) {
	if f := observe.Load(); f != nil {
		(*f)()
	}
}

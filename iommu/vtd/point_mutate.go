//go:build mutate

package vtd

import "sync/atomic"

// left is the step that is left out, plus one; 0 is none.
var left atomic.Int32

// observe, if set, is called between two ordered steps.
var observe atomic.Pointer[func()]

// reached are the steps that the driver came to.
var reached [points]atomic.Bool

func keep(p point) bool {
	reached[p].Store(true)
	return left.Load() != int32(p)+1
}

func between(point) {
	if f := observe.Load(); f != nil {
		(*f)()
	}
}

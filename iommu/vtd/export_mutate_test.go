//go:build mutate

package vtd

// Points are the names of all steps that can be left out.
func Points() []string { return pointNames[:] }

// Leave leaves one step out; -1 none. No step counts as reached from now on.
func Leave(p int) {
	left.Store(int32(p) + 1)
	for i := range reached {
		reached[i].Store(false)
	}
}

// Reached says whether the driver has come to a step.
func Reached(p int) bool { return reached[p].Load() }

// Observe has f called between ordered steps; nil ends that.
func Observe(f func()) {
	if f == nil {
		observe.Store(nil)
		return
	}
	observe.Store(&f)
}

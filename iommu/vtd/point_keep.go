//go:build !mutate

package vtd

// keep says that a step is done.
func keep(point) bool { return true }

// between is called between two ordered steps.
func between(point) {}

//go:build !mutate

package vtd

// keep says that a step is done.
//
//gommu:nosleep
func keep(point) bool { return true }

// between is called between two ordered steps.
func between(point) {}

//go:build !amd64

package probe

// entered does nothing: on arm64 the kernel carries out a return itself when an uprobe stops there.
//
//gommu:nosleep
func entered() {}

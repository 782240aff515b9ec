//go:build !mutate

package pagetable

// leftOut says that the step its caller was called for is to be left out. See the tag mutate.
//
//gommu:nosleep
func leftOut() bool { return false }

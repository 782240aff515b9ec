package probe

// entered gives a function a frame: so it begins with a push, which the kernel carries out itself when an uprobe stops there. An
// empty function is a return, which the kernel has the processor do elsewhere in a single step: that is a
// second trap, and five times as dear.
//
//gommu:nosleep
func entered() { nothing() }

//go:noinline
//go:nosplit
//gommu:nosleep
func nothing() {}

// Package alloc has what allocates. // want package:"nosleep"
package alloc

import "errors"

type node struct {
	next *node
	n    int
}

type number int

var (
	keep  *node
	any0  any
	list  []int
	text  = "x"
	bytes = []byte("x")
	fn    func() int
	fault = errors.New("ready-made")
)

//gommu:nosleep
func makes(n int) {
	_ = make([]int, n)    // want `nosleep function makes makes a slice`
	_ = make(map[int]int) // want `makes a map`
	_ = make(chan int)    // want `makes a channel`
	_ = map[int]int{1: 2} // want `makes a map` `writes to a map`
}

//gommu:nosleep
func composite() *node {
	return &node{} // want `allocates a node, which outlives the call`
}

//gommu:nosleep
func stored() {
	keep = &node{n: 1} // want `allocates a node, which outlives the call`
	list = []int{1, 2} // want `allocates a \[2\]int, which outlives the call`
}

//gommu:nosleep
func fresh() {
	keep = new(node) // want `allocates a node, which outlives the call`
}

//gommu:nosleep
func moved() *int {
	n := 1 // want `takes the address of n, which outlives the call`
	return &n
}

//gommu:nosleep
func param(n node) { // want `takes the address of n, which outlives the call`
	keep = &n
}

//gommu:nosleep
func appends(n int) []int {
	return append(list, n) // want `appends, which allocates where the slice is full`
}

//gommu:nosleep
func closure(n int) { // want `takes the address of n`
	fn = func() int { return n } // want `makes a function with variables of its own that outlives the call`
}

//gommu:nosleep
func boxes(n int, s string, x node, f float64, u number) {
	any0 = n // want `puts a int into an interface`
	any0 = s // want `puts a string into an interface`
	any0 = x // want `puts a node into an interface`
	any0 = f // want `puts a float64 into an interface`
	any0 = u // want `puts a number into an interface`
}

type flags struct{ set bool }

//gommu:nosleep
func boxesVariables(b flags) {
	n := 5
	any0 = n // want `puts a int into an interface`
	var zero node
	any0 = zero   // want `puts a node into an interface`
	any0 = b      // want `puts a flags into an interface`
	any0 = node{} // want `puts a node into an interface`
	const k = 5
	any0 = k
}

//gommu:nosleep
func variadic(n int) {
	takesAny(n) // want `puts a int into an interface`
}

//gommu:nosleep
func takesAny(args ...any) { any0 = args[0] }

//gommu:nosleep
func texts(a, b string, r rune) {
	text = a + b         // want `joins strings`
	text += a            // want `joins strings`
	text = string(r)     // want `converts to string`
	bytes = []byte(a)    // want `converts to \[\]byte`
	text = string(bytes) // want `converts to string`
	_ = []rune(a)        // want `converts to \[\]rune`
}

//gommu:nosleep
func large() byte {
	var big [1 << 17]byte // want `has a variable too large for the stack`
	return big[keep.n]
}

//gommu:nosleep
func deferring() {
	for range 3 {
		defer composite() // want `defers in a loop`
	}
}

// Good allocates nothing, though it looks so here and there.
//
//gommu:nosleep
func good(p *node, b bool, e error) error {
	x := &node{n: 1} // never leaves
	x.next = p
	y := [4]int{1, 2, 3, 4}
	z := []int{x.n, y[1]}
	add := func(n int) { y[0] += n + z[0] }
	add(2)
	any0 = p          // a pointer fits into an interface
	any0 = "constant" // made by the compiler
	any0 = 7
	any0 = b
	any0 = struct{}{}
	any0 = fn
	const joined = "a" + "b"
	text = joined
	copy(list, z)
	if e == fault {
		return fault
	}
	defer add(1)
	return nil
}

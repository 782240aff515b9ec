// Package escape has variables whose address is taken: those that the compiler can keep on the stack and those // want package:"nosleep"
// that it cannot.
package escape

import (
	"sync/atomic"
	"unsafe"
)

type cell struct {
	p *int
	q *cell
	a [4]*int
}

var (
	global *int
	cells  []cell
	shared atomic.Pointer[int]
)

func only(p *int) int            { return *p }
func keeps(p *int)               { global = p }
func same(p *int) *int           { return p }
func deep(c *cell) *int          { return c.p }
func keepsDeep(c *cell)          { global = c.p }
func (c *cell) set(p *int)       { c.p = p }
func (c *cell) bump()            { *c.p++ }
func (c *cell) shift()           { c.q = c.q.q }
func (c *cell) moveOut()         { c.q.p = c.p }
func two(p, q *int) (*int, *int) { return q, p }
func through(p *int) *int {
	if *p == 0 {
		return through(p)
	}
	return same(p)
}

//gommu:nosleep
func down() int {
	n := 1
	return only(&n)
}

//gommu:nosleep
func kept() {
	n := 1 // want `takes the address of n, which outlives the call`
	keeps(&n)
}

//gommu:nosleep
func back() int {
	n := 1
	return *same(&n)
}

//gommu:nosleep
func backAndOut() *int {
	n := 1 // want `takes the address of n`
	return through(&n)
}

//gommu:nosleep
func inACell() int {
	n := 1
	c := cell{p: &n}
	c.bump()
	c.shift()
	return *deep(&c)
}

//gommu:nosleep
func outOfACell() *int {
	n := 1 // want `takes the address of n`
	c := cell{p: &n}
	return deep(&c)
}

//gommu:nosleep
func keptOutOfACell() {
	n := 1 // want `takes the address of n`
	c := cell{p: &n}
	keepsDeep(&c)
}

//gommu:nosleep
func setInACell() {
	n := 1 // want `takes the address of n`
	var c cell
	c.set(&n) // set is not known to be of a local variable
}

//gommu:nosleep
func fromCellToHeap(d *cell) {
	n := 1 // want `takes the address of n`
	c := cell{p: &n, q: d}
	c.moveOut()
}

//gommu:nosleep
func intoArgument(c *cell) {
	n := 1 // want `takes the address of n`
	c.p = &n
}

//gommu:nosleep
func whichResult() int {
	m, n := 1, 2
	p, _ := two(&m, &n)
	return *p
}

//gommu:nosleep
func whichLeaves() *int {
	m := 1
	n := 2 // want `takes the address of n`
	p, _ := two(&m, &n)
	return p
}

//gommu:nosleep
func atomically() {
	n := 1 // want `takes the address of n`
	shared.Store(&n)
}

//gommu:nosleep
func eachTurn() (sum int) {
	var last *int
	for i := range 3 {
		n := i // want `takes the address of n`
		last = &n
	}
	return *last
}

//gommu:nosleep
func inEachTurn() (sum int) {
	for i := range 3 {
		n := i
		sum += only(&n)
	}
	for i := 0; i < 3; i++ {
		sum += only(&i)
	}
	return sum
}

//gommu:nosleep
func afterTheLoop() int {
	var p *int
	for {
		n := 1 // want `takes the address of n`
		p = &n
		break
	}
	return *p
}

//gommu:nosleep
func either(b bool) int {
	m, n := 1, 2
	p := &m
	if b {
		p = &n
	}
	return only(p)
}

//gommu:nosleep
func slices() int {
	var a [4]int
	s := a[1:3]
	s[0] = 1
	return s[1]
}

//gommu:nosleep
func sliceOut() []int {
	var a [4]int // want `takes the address of a`
	return a[:]
}

//gommu:nosleep
func unsafely() uintptr {
	n := 1
	p := unsafe.Pointer(&n)
	*(*int)(p) = 2
	return uintptr(p)
}

//gommu:nosleep
func unsafelyOut() {
	n := 1 // want `takes the address of n`
	global = (*int)(unsafe.Pointer(&n))
}

//gommu:nosleep
func copies() {
	n := 1 // want `takes the address of n`
	local := []*int{&n}
	var other [1]*int
	copy(other[:], local)
	copy(cells[0].a[:], local)
}

//gommu:nosleep
func captured() int {
	n := 1
	f := func() { n++ }
	f()
	return n
}

//gommu:nosleep
func capturedOut() {
	n := 1        // want `takes the address of n`
	f := func() { // a literal that keeps what it has
		global = &n
	}
	f()
}

//gommu:nosleep
func jumping() int {
	n := 1 // want `takes the address of n`
again:
	if only(&n) == 0 {
		goto again
	}
	return n
}

//gommu:nosleep
func nothing() *struct{} {
	return &struct{}{} // nothing to want: the compiler calls it the heap, but it has no size
}

// variable: the compiler sees one p, which is kept; that it holds something else then it does not see.
//
//gommu:nosleep
func variable(q *int) int {
	n := 1 // want `takes the address of n`
	p := q
	global = p
	p = &n
	return *p
}

//gommu:nosleep
func variableInALoop(q *int) (sum int) {
	p := q
	for i := range 3 {
		n := i // want `takes the address of n`
		p = &n
		sum += *p
	}
	return sum
}

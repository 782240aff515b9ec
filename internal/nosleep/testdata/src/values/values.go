// Package values has functions that are values. // want package:"nosleep"
package values

import "slices"

var (
	ch   = make(chan int)
	hook func()
	keep handler
)

//gommu:nosleep
type handler func(int)

type plain func(int)

type device struct {
	//gommu:nosleep
	done  func(int)
	other func(int)
	also  func(int) //gommu:nosleep
}

func sleeps(n int) { ch <- n }
func works(n int)  { hook = nil }

//gommu:nosleep
func calls(d *device, h handler, p plain, f func(int)) {
	d.done(1)
	d.also(1)
	h(1)
	f(1)       // who calls calls answers for f
	d.other(1) // want `calls a function value that can be anything`
	hook()     // want `calls a function value that can be anything`
	list := []func(){hook}
	list[0]() // want `calls a function value that can be anything`
	p(1)      // as f
}

//gommu:nosleep
func hands(d *device, f func(int)) {
	calls(d, works, works, works)
	calls(d, nil, works, f)
	calls(d, nil, works, d.done)
	calls(d, nil, works, sleeps)                  // want `hands calls sleeps, which sends on a channel`
	calls(d, nil, works, func(n int) { ch <- n }) // want `hands calls a function literal in hands, which sends on a channel`
	calls(d, nil, works, d.other)                 // want `hands calls a function that can be anything`
	further(f)
	further(sleeps) // want `calls sleeps, which sends on a channel`
	bound := receiver{}.sleeps
	further(bound) // want `calls receiver.sleeps, which sends on a channel`
}

type receiver struct{}

func (receiver) sleeps(n int) { ch <- n }

// further is not marked, and hands its parameter on.
func further(f func(int)) { literal(func() { f(1) }) }

func literal(f func()) { f() }

//gommu:nosleep
func local(b bool) int {
	n := 0
	add := func(k int) { n += k }
	twice := func(k int) { add(k); add(k) }
	twice(2)
	f := works
	if b {
		f = sleeps
	}
	f(1) // want `local calls sleeps, which sends on a channel`
	var late func(int)
	late = func(int) {}
	late(1)
	return n
}

//gommu:nosleep
func iterators() (sum int) {
	for i := range three {
		sum += i
	}
	for i := range three { // want `iterators calls a loop's body in iterators, which sends on a channel`
		ch <- i
	}
	for i := range upTo(3) { // want `iterators calls upTo, which takes the address of n`
		sum += i
	}
	return sum
}

func three(yield func(int) bool) {
	_ = yield(1) && yield(2) && yield(3)
}

func upTo(n int) func(func(int) bool) {
	return func(yield func(int) bool) {
		for i := range n {
			if !yield(i) {
				return
			}
		}
	}
}

//gommu:nosleep
func library(list []int) bool {
	i := slices.IndexFunc(list, func(n int) bool { return n > 0 })
	k := slices.IndexFunc(list, func(n int) bool { ch <- n; return true }) // want `library calls a function literal in library, which sends on a channel`
	return i == k
}

func stores(d *device, f func(int), h handler) {
	d.done = works
	d.done = nil
	d.done = h
	d.done = sleeps                    // want `the field device.done never sleeps, but what it gets is sleeps, which sends on a channel`
	d.done = f                         // want `the field device.done never sleeps, but the function that it gets can be anything`
	d.done = func(n int) { sleeps(n) } // want `the field device.done never sleeps, but what it gets is a function literal in stores -> sleeps, which sends on a channel`
	d.other = sleeps
	_ = device{done: works, also: sleeps} // want `the field device.also never sleeps`
	_ = handler(works)
	_ = handler(sleeps)            // want `the type handler never sleeps, but what it gets is sleeps`
	keep = func(n int) { ch <- n } // want `the type handler never sleeps, but what it gets is a function literal in stores, which sends`
	address(&d.done)               // want `the address of the field device.done, which never sleeps, is taken`
	type alike struct{ done, other, also func(int) }
	*d = device(alike{}) // want `alike becomes device, whose field done never sleeps` `alike becomes device, whose field also never sleeps`
}

func address(*func(int)) {}

// visit keeps f in a variable of its own, for the time of the call.
//
//gommu:nosleep
func visit(f func(int)) {
	d := device{done: f}
	d.tell()
}

func (d *device) tell() { d.done(1) }

//gommu:nosleep
func visits() {
	visit(works)
	visit(sleeps) // want `visits calls sleeps, which sends on a channel`
}

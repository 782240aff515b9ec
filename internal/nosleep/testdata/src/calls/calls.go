// Package calls has chains of calls. // want package:"nosleep"
package calls

import "errors"

var ch = make(chan int)

//gommu:nosleep
func Top(n int) int {
	n = clean(n)
	n = marked(n)
	one(n) // want `nosleep function Top calls one -> two -> thing.three, which sends on a channel \(calls.go:\d+\): let a goroutine that may sleep do it`
	return n
}

func clean(n int) int { return even(n) + 1 }

// even and odd call each other.
func even(n int) int {
	if n == 0 {
		return 1
	}
	return odd(n - 1)
}

func odd(n int) int {
	if n == 0 {
		return 0
	}
	return even(n - 1)
}

// marked is reported where it breaks its promise, not where it is called.
//
//gommu:nosleep
func marked(n int) int {
	ch <- n // want `nosleep function marked sends on a channel`
	return n
}

func one(n int) { two(n) }

func two(n int) { thing{}.three(n) }

type thing struct{}

func (thing) three(n int) { ch <- n }

// ping and pong call each other, and one of them waits.
func ping(n int) int { return pong(n) }

func pong(n int) int {
	if n > 0 {
		return ping(n - 1)
	}
	return <-ch
}

//gommu:nosleep
func circle() {
	_ = ping(1) // want `circle calls ping -> pong, which receives from a channel`
}

//gommu:nosleep
func both() {
	_ = errors.New("x") // want `calls errors.New, which allocates`
	_ = allocates()     // want `both calls allocates, which allocates a int, which outlives the call`
}

func allocates() *int { return new(int) }

//gommu:nosleep
func methods(t thing) {
	f := t.three
	f(1)              // want `methods calls thing.three, which sends on a channel`
	thing.three(t, 1) // want `methods calls thing.three, which sends on a channel`
	func() {
		two(1)
	}() // want `methods calls a function literal in methods -> two -> thing.three, which sends`
	defer two(1) // want `methods calls two -> thing.three`
}

type outer struct{ *inner }
type inner struct{ thing }

//gommu:nosleep
func promoted(o outer) {
	o.three(1) // want `promoted calls thing.three, which sends on a channel`
}

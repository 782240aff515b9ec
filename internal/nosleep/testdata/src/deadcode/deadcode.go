// Package deadcode has code that a constant leaves out. // want package:"nosleep"
package deadcode

const (
	debugging = false
	pinning   = true
)

var ch = make(chan int)

//gommu:nosleep
func f(ok bool) {
	if debugging {
		ch <- 1
	}
	if debugging && ok {
		ch <- 2
	}
	if !pinning {
		ch <- 3
		return
	}
	if pinning {
		ch <- 4 // want `nosleep function f sends on a channel`
	}
}

var kept *int

func keep(p *int) {
	if debugging {
		kept = p
	}
}

func keepNow(p *int) {
	if pinning {
		kept = p
	}
}

//gommu:nosleep
func variables() {
	n := 1
	keep(&n)
	m := 1 // want `takes the address of m, which outlives the call`
	keepNow(&m)
}

// Package listed has what is taken on trust. // want package:"nosleep"
package listed

var ch = make(chan int, 1)

//gommu:nosleep
func lines() {
	ch <- 1 //gommu:trust the buffer has room // want `trust: the buffer has room`
	ch <- 2 // a fault, which this mode does not tell
}

//gommu:nosleep
func assembly() // want `no body: assembly is marked nosleep`

//gommu:maysleep it is a socket // want `maysleep: it is a socket`
type fake struct{}

// Package trust has lines that are taken on trust. // want package:"nosleep"
package trust

var ch = make(chan int, 1)

//gommu:nosleep
func lines(list []int, n int) []int {
	ch <- 1 //gommu:trust the buffer has room for the only one
	//gommu:trust as above
	ch <- 2
	ch <- 3 // want `nosleep function lines sends on a channel`
	//gommu:trust it is for the statement that begins here
	list = append(list,
		n,
		n)
	list = append(list,
		n) //gommu:trust and for the one that ends here
	if n > 0 { //gommu:trust only the head of an if // want `//gommu:trust is not needed here`
		ch <- 4 // want `sends on a channel`
	}
	return list
}

// helper is not marked; a trust counts in it too.
func helper() {
	ch <- 1 //gommu:trust the buffer has room
}

func untrusting() { ch <- 1 }

//gommu:nosleep
func calls() {
	helper()
	untrusting() //gommu:trust the caller has looked
	untrusting() // want `calls calls untrusting, which sends`
}

//gommu:nosleep
func bad() {
	ch <- 1 //gommu:trust // want `nosleep function bad sends on a channel` `//gommu:trust has no reason`
}

//gommu:nosleep
func needless() int {
	return 1 //gommu:trust there is nothing // want `//gommu:trust is not needed here: remove it`
}

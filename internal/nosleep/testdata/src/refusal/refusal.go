// Package refusal has the errors of calls that the caller got wrong. // want package:"nosleep"
package refusal

import (
	"errors"
	"fmt"
)

var (
	ch       = make(chan int)
	errEmpty = errors.New("empty")
	kept     error
)

type opError struct {
	op string
	n  int
}

func (e *opError) Error() string { return fmt.Sprintf("%s: %d", e.op, e.n) }

//gommu:refusal
func refuse(op string, n int) error { return &opError{op, n} }

//gommu:refusal
func refuseText(n int, args ...any) error {
	return fmt.Errorf("%w: %d of %v", refuse("text", n), n, args)
}

//gommu:refusal
func refuseWaiting() error {
	ch <- 1 // want `refusal function refuseWaiting sends on a channel`
	wait()  // want `refusal function refuseWaiting calls wait, which receives from a channel`
	return errEmpty
}

func wait() { <-ch }

func helper(n int) (int, error) {
	if n < 0 {
		return 0, refuse("helper", n)
	}
	return n, nil
}

//gommu:nosleep
func get(n int, name string) (int, error) {
	switch {
	case n == 0:
		return 0, errEmpty
	case n < 0:
		return 0, refuse("get", n)
	case n == 1:
		return 0, (refuseText(n, n, "x"+name))
	case n == 2:
		return 0, &opError{"get", n} // want `allocates a opError, which outlives the call`
	case n == 3:
		err := refuse("get", n) // want `calls the refusal function refuse other than as a result of a return statement`
		return 0, err
	case n == 4:
		kept = refuse("get", n) // want `calls the refusal function refuse other than`
	case n == 5:
		return 0, errors.Join(refuse("get", n)) // want `calls errors.Join, which` `calls the refusal function refuse other than`
	case n == 6:
		return 0, refuseText(<-ch) // want `receives from a channel`
	}
	return helper(n)
}

//gommu:nosleep
func panics(n int, s string) {
	if n < 0 {
		panic("n is negative: " + s)
	}
	if n == 0 {
		panic(fmt.Sprintf("n is %d", n))
	}
	if n == 1 {
		panic(refuse("panics", n))
	}
	if n == 2 {
		panic(<-ch) // want `receives from a channel`
	}
	s = s + "x" // want `joins strings`
	panic(s)
}

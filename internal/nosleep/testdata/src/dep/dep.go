// Package dep is what user imports. // want package:"nosleep"
package dep

import "errors"

var ch = make(chan int)

//gommu:nosleep
func Marked() {}

func Clean(n int) int { return n + 1 }

func Sleeps() { deep() }

func deep() { ch <- 1 }

func Allocates() *int { return new(int) }

//gommu:refusal
func Refuse(n int) error { return errors.New("refused") }

func Calls(f func()) { f() }

func Keeps(p *int)     { kept = p }
func Reads(p *int) int { return *p }

var kept *int

type Unit interface {
	//gommu:nosleep
	Kick()
	Wait()
}

type Good struct{}

//gommu:nosleep
func (*Good) Kick() {}
func (*Good) Wait() {}

type Bad struct{}

func (Bad) Kick() {}
func (Bad) Wait() {}

// Fake is for tests.
//
//gommu:maysleep it is for tests
type Fake struct{}

func (Fake) Kick() { ch <- 1 }
func (Fake) Wait() {}

type Pool[T any] struct {
	e T
	//gommu:nosleep
	Done  func(T)
	Other func(T)
}

//gommu:nosleep
func (p *Pool[T]) Get() T { return p.e }

func (p *Pool[T]) Len() int { return 1 }

func (p *Pool[T]) Wait() T { <-ch; return p.e }

//gommu:nosleep
type Handler func()

type hidden struct{}

func (hidden) Kick2() { ch <- 1 }

// Shown has the methods of a type that importers cannot name.
type Shown struct{ hidden }

//gommu:nosleep
func NoBody()

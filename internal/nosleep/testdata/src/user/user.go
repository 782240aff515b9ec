// Package user calls another package. // want package:"nosleep"
package user

import "dep"

var (
	ch = make(chan int)
	u  dep.Unit
)

//gommu:nosleep
func calls(p *dep.Pool[int], u dep.Unit, h dep.Handler, s dep.Shown) error {
	dep.Marked()
	dep.NoBody()
	_ = dep.Clean(1)
	dep.Sleeps()        // want `nosleep function calls calls dep.Sleeps -> deep, which sends on a channel \(dep.go:\d+\)`
	_ = dep.Allocates() // want `calls dep.Allocates, which allocates a int, which outlives the call`
	_ = p.Get()
	_ = p.Len()
	_ = p.Wait() // want `calls dep.Pool.Wait, which receives from a channel`
	u.Kick()
	u.Wait() // want `calls Unit.Wait of an interface`
	h()
	p.Done(1)
	p.Other(1) // want `calls a function value that can be anything`
	s.Kick2()  // want `calls dep.hidden.Kick2, which sends on a channel`
	one()      // want `calls one -> dep.Sleeps -> deep, which sends on a channel|calls one, which calls dep.Sleeps -> deep, which sends on a channel`
	n := 1
	_ = dep.Reads(&n)
	m := 2 // want `takes the address of m, which outlives the call`
	dep.Keeps(&m)
	_ = dep.Refuse(1) // want `calls the refusal function dep.Refuse other than`
	return dep.Refuse(1)
}

func one() { dep.Sleeps() }

//gommu:nosleep
func hands() {
	dep.Calls(func() {})
	dep.Calls(func() { ch <- 1 }) // want `hands calls a function literal in hands, which sends on a channel`
}

func converts(p *dep.Pool[string]) {
	u = &dep.Good{}
	u = dep.Fake{}
	u = dep.Bad{}                       // want `dep.Bad becomes dep.Unit, whose method Kick never sleeps, but Bad.Kick is not marked so`
	p.Done = func(string) { ch <- 1 }   // want `the field Pool.Done never sleeps, but what it gets is a function literal in converts, which sends`
	_ = dep.Handler(func() { ch <- 1 }) // want `the type Handler never sleeps`
}

type mine struct{}

func (mine) Kick() {}
func (mine) Wait() {}

func own() dep.Unit {
	return mine{} // want `mine becomes dep.Unit`
}

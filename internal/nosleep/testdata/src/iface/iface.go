// Package iface has methods that are called through interfaces. // want package:"nosleep"
package iface

import "io"

type registers interface {
	// Read reads.
	//
	//gommu:nosleep
	Read(off int) uint32
	Write(off int, v uint32) //gommu:nosleep
	Close() error
}

type more interface {
	registers
	Reset()
}

var kept registers

//gommu:nosleep
func uses(r registers, m more, w io.Writer, e error) uint32 {
	r.Write(0, 1)
	m.Write(0, 1)       // embedded
	_ = r.Close()       // want `calls registers.Close of an interface, which can be anything`
	m.Reset()           // want `calls more.Reset of an interface`
	_, _ = w.Write(nil) // want `calls Writer.Write of an interface`
	_ = e.Error()       // want `calls error.Error of an interface`
	f := r.Close
	_ = f() // want `calls registers.Close of an interface`
	g := r.Read
	return r.Read(0) + g(0)
}

type good struct{ n uint32 }

//gommu:nosleep
func (g *good) Read(int) uint32 { return g.n }

//gommu:nosleep
func (g *good) Write(int, uint32) { g.n++ }
func (g *good) Close() error      { return nil }

type half struct{}

//gommu:nosleep
func (half) Read(int) uint32   { return 0 }
func (half) Write(int, uint32) {}
func (half) Close() error      { return nil }

// fake is a test's.
//
//gommu:maysleep it is a socket
type fake struct{ c chan uint32 }

func (f fake) Read(int) uint32       { return <-f.c }
func (f fake) Write(_ int, v uint32) { f.c <- v }
func (f fake) Close() error          { return nil }

type wrapped struct{ *good }
type wrappedHalf struct{ half }
type wrappedInterface struct{ registers }

func assign() {
	kept = &good{}
	kept = wrapped{}
	kept = wrappedInterface{}
	kept = fake{}
	kept = half{}        // want `half becomes registers, whose method Write never sleeps, but half.Write is not marked so`
	kept = wrappedHalf{} // want `wrappedHalf becomes registers, whose method Write never sleeps, but half.Write is not marked so`
	uses(&good{}, nil, nil, nil)
	uses(half{}, nil, nil, nil)          // want `half becomes registers`
	list := []registers{&good{}, half{}} // want `half becomes registers`
	_ = list
	_ = registers(half{}) // want `half becomes registers`
	var v any = half{}
	kept = v.(registers) // want `any becomes registers, whose method Read never sleeps, but nothing says so` `any becomes registers, whose method Write never sleeps`
	//gommu:trust the test put it there
	kept = v.(registers)
}

func returned() registers {
	return half{} // want `half becomes registers`
}

func sent(c chan registers) {
	c <- half{} // want `half becomes registers`
}

type plain interface {
	Read(off int) uint32
	Write(off int, v uint32)
	Close() error
}

func fromPlain(p plain) {
	kept = p // want `plain becomes registers, whose method Read never sleeps` `plain becomes registers, whose method Write never sleeps`
}

//gommu:nosleep
func asserts(v any, m more, p plain) bool {
	_, ok := v.(io.Writer) // want `converts to the interface io.Writer at run time`
	_, is := v.(*good)
	_ = any(p)
	kept = m // want `converts to the interface registers at run time`
	switch v.(type) {
	case *good:
	case error: // want `converts to the interface error at run time`
	}
	return ok && is
}

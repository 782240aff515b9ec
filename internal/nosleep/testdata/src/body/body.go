// Package body has functions in assembly. // want package:"nosleep"
package body

import "unsafe"

var kept *int

//gommu:nosleep
func marked(p *int)

//gommu:nosleep
//go:noescape
func stays(p *int)

func unmarked()

var _ unsafe.Pointer

//gommu:nosleep
func calls() {
	n := 1 // want `takes the address of n, which outlives the call`
	marked(&n)
	m := 1
	stays(&m)
	unmarked() // want `nosleep function calls calls unmarked, which has no Go body \(body.go:\d+\): mark it //gommu:nosleep`
}

//go:build !linux

package rung

var rungs = []rung{{name: "model", open: openModel}}

// vfioMachine is what only Linux has.
type vfioMachine struct{}

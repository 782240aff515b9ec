//go:build !linux

package iova

import "testing"

// What a process holds is read from /proc: elsewhere nothing is checked.
func leaves(*testing.T) (check func()) { return func() {} }

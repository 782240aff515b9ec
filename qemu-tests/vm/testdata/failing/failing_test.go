// Package failing has guest tests of every outcome, for TestRunFails of package vm.
package failing

import (
	"os"
	"testing"

	"gommu/qemu-tests/vm/guest"
)

func TestMain(m *testing.M) { guest.Main(m) }

func TestPass(t *testing.T) { t.Log("log of a pass") }

func TestSkip(t *testing.T) { t.Skip("log of a skip") }

func TestParent(t *testing.T) {
	t.Run("pass", func(t *testing.T) {})
	t.Run("with/slash and space", func(t *testing.T) { t.Error("log of a failure") })
	t.Run("skip", func(t *testing.T) { t.Skip("log of a skip below") })
}

func TestPanic(t *testing.T) {
	os.Stderr.WriteString("said before the panic\n")
	panic("a panic in the guest")
}

func TestNever(t *testing.T) {}

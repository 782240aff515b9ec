package guest

import (
	"os"

	"gommu/qemu-tests/vm/internal/wire"
)

// Init runs a program and ends the process with the exit code that run returns.
// As PID 1 of a guest it sets the machine up, lets a child of the same
// executable do that, and powers off. It never returns. Nothing that the program
// does for itself should come before it.
func Init(run func() int) {
	if first() {
		supervise()
	}
	os.Exit(run())
}

// Main is Init for a TestMain; m is a *testing.M. Outside of a guest the tests
// run too: those that need the guest skip with SkipUnlessInside.
func Main(m interface{ Run() int }) { Init(m.Run) }

// Inside reports whether this process runs in a guest of package vm.
func Inside() bool { return os.Getenv(wire.Inside) == "1" }

// SkipUnlessInside skips a test (a testing.TB) that runs anywhere but in a guest.
func SkipUnlessInside(t interface {
	Helper()
	Skip(args ...any)
}) {
	t.Helper()
	if !Inside() {
		t.Skip("needs the guest: run it with vm.Run (go test gommu/qemu-tests/...)")
	}
}

package guest

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"gommu/qemu-tests/vm/internal/wire"
)

// A skipper records whether a test was skipped.
type skipper struct{ skipped string }

func (s *skipper) Helper()          {}
func (s *skipper) Skip(args ...any) { s.skipped = args[0].(string) }

func TestInside(t *testing.T) {
	for value, inside := range map[string]bool{"": false, "0": false, "1": true} {
		t.Setenv(wire.Inside, value)
		var s skipper
		SkipUnlessInside(&s)
		if Inside() != inside || (s.skipped == "") != inside {
			t.Errorf("%q: inside %v, skipped %q", value, Inside(), s.skipped)
		}
		if s.skipped != "" && !strings.Contains(s.skipped, "vm.Run") {
			t.Errorf("the reason does not say what to do: %q", s.skipped)
		}
	}
}

// TestInit: outside of a guest Init runs the program and exits with its code.
func TestInit(t *testing.T) {
	if os.Getenv("GOMMU_GUEST_TEST_INIT") == "1" {
		Init(func() int { return 42 })
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestInit$")
	cmd.Env = append(os.Environ(), "GOMMU_GUEST_TEST_INIT=1")
	if out, err := cmd.CombinedOutput(); cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != 42 {
		t.Errorf("%v: %s", err, out)
	}
}

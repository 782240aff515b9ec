//go:build linux

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"gommu/qemu-tests/provision"
	"gommu/qemu-tests/vm/guest"
)

// TestMain lets the test binary be the command for scripts, and the init of a
// guest for the tests in guest_test.go.
func TestMain(m *testing.M) {
	guest.Init(func() int {
		testscript.Main(m, map[string]func(){"gommu": func() { os.Exit(run()) }})
		return 0
	})
}

// TestScripts runs the command as a shell would. The scripts have no QEMU and
// no cache; $QEMU is one, in scripts that ask for [qemu].
func TestScripts(t *testing.T) {
	if guest.Inside() {
		t.Skip("the scripts are not in the guest")
	}
	qemus, qemuErr := provision.FindQEMU(provision.Options{})
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			bin, _, _ := strings.Cut(e.Getenv("PATH"), string(filepath.ListSeparator))
			e.Setenv("PATH", bin)
			e.Setenv("GOMMU_CACHE", filepath.Join(e.WorkDir, "cache"))
			for _, name := range []string{"GOMMU_QEMU", "GOMMU_KERNEL", "GOMMU_MODULES"} {
				e.Setenv(name, "")
			}
			if qemuErr == nil {
				e.Setenv("QEMU", qemus[0].Path)
			}
			return nil
		},
		Cmds:      map[string]func(*testscript.TestScript, bool, []string){"onejson": oneJSON, "dmartables": dmarTables},
		Condition: func(cond string) (bool, error) { return cond == "qemu" && qemuErr == nil, nil },
	})
}

// oneJSON is a command of scripts: the last stdout is one JSON object and nothing else.
func oneJSON(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: onejson")
	}
	var object map[string]any
	if err := json.Unmarshal([]byte(ts.ReadFile("stdout")), &object); err != nil {
		ts.Fatalf("stdout is not one JSON object: %v", err)
	}
}

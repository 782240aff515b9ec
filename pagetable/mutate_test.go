//go:build mutate

package pagetable

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestMain tells the parent which steps were reached.
func TestMain(m *testing.M) {
	code := m.Run()
	if name := os.Getenv(reachedEnv); name != "" {
		if err := os.WriteFile(name, []byte(strings.Join(stepsReached(), "\n")), 0o600); err != nil {
			fmt.Println(err)
			code = 1
		}
	}
	os.Exit(code)
}

func stepsReached() []string {
	names := map[string]bool{}
	reached.Range(func(name, _ any) bool { names[name.(string)] = true; return true })
	return slices.Sorted(maps.Keys(names))
}

// TestMutations leaves out each flush, each order and each showing of links in turn, and demands that
// one of the other tests fails. Run it with go test -tags mutate.
func TestMutations(t *testing.T) {
	if os.Getenv(leaveEnv)+os.Getenv(reachedEnv) != "" {
		t.Skip("this process is one of the runs that TestMutations starts")
	}
	list := t.TempDir() + "/reached"
	if out, err := suite(t, reachedEnv+"="+list); err != nil {
		t.Fatalf("with all steps: %v\n%s", err, out)
	}
	steps, err := os.ReadFile(list)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range strings.Split(string(steps), "\n") {
		t.Run(step, func(t *testing.T) {
			if out, err := suite(t, leaveEnv+"="+step); err == nil {
				t.Errorf("nothing notices that %s is left out\n%s", step, out)
			}
		})
	}
}

// suite runs the other tests in a process of their own, but for those that take long and those that count allocations, which a build with the tag makes.
func suite(t *testing.T, env string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.failfast", "-test.short", "-test.skip=TestMutations|TestStress|TestRandom|NoAllocs|DryPool")
	cmd.Env = append(os.Environ(), env)
	return cmd.CombinedOutput()
}

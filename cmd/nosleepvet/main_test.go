package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// run runs a command in another module and returns what it says and its exit status.
func run(t *testing.T, name string, args ...string) (string, int) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = filepath.Join("testdata", "driver")
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off", "GOPROXY=off", "GOTOOLCHAIN=local")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s %v: %v", name, args, err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// TestOtherModule runs the built tool over drivers in a module of their own, as its users do: by go vet and by
// itself.
func TestOtherModule(t *testing.T) {
	tool := filepath.Join(t.TempDir(), "nosleepvet")
	if out, err := exec.Command("go", "build", "-o", tool, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	faults := []string{
		"bad.go:19: nosleep function Submit calls fmt.Errorf, which makes a text: ",
		"bad.go:19: nosleep function Submit puts a uint64 into an interface: ",
		"bad.go:21: nosleep function Submit calls note, which writes to a map (bad.go:26): use an array",
		"bad.go:22: nosleep function Submit calls ring.Ring.Keep -> Ring.locked, which calls sync.Mutex.Lock, which waits for other goroutines",
		"bad.go:36: socket becomes ring.Doorbell, whose method Ring never sleeps, but socket.Ring is not marked so: ",
	}
	trusts := []string{"bad.go:32: trust: nobody else has this ring yet"}
	vet := []string{"go", "vet", "-vettool=" + tool}
	for _, c := range []struct {
		name    string
		command []string
		fails   bool
		says    []string
	}{
		{"vet of a good driver", append(vet, "./good", "./ring", "./card", "./outer"), false, nil},
		{"vet of a bad driver", append(vet, "./bad"), true, faults},
		{"vet of all", append(vet, "./..."), true, faults},
		{"vet for trusts", append(vet, "-trusts", "./..."), true, trusts},
		{"the tool by itself", []string{tool, "./..."}, true, faults},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, status := run(t, c.command[0], c.command[1:]...)
			if (status != 0) != c.fails {
				t.Errorf("exit status %d", status)
			}
			var lines []string
			for line := range strings.Lines(out) {
				if strings.Contains(line, ".go:") {
					lines = append(lines, withoutColumn(line))
				}
			}
			if len(lines) != len(c.says) {
				t.Errorf("%d findings, want %d", len(lines), len(c.says))
			}
			for _, want := range c.says {
				if !strings.Contains(strings.Join(lines, ""), want) {
					t.Errorf("it does not say %q", want)
				}
			}
			if t.Failed() {
				t.Logf("it says:\n%s", out)
			}
		})
	}
}

// withoutColumn is "bad.go:19:10: what" as "bad.go:19: what".
func withoutColumn(line string) string {
	parts := strings.SplitN(line, ":", 4)
	if len(parts) < 4 {
		return line
	}
	return parts[0] + ":" + parts[1] + ":" + parts[3]
}

package vm

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"gommu/qemu-tests/vm/guest"
)

// TestMain makes the test binary its own guest program: with a first argument "program" the
// guest runs that instead of tests.
func TestMain(m *testing.M) {
	guest.Init(func() int {
		if guest.Inside() {
			return program(os.Args[1:])
		}
		return m.Run()
	})
}

// report is what the program "report" says about where it finds itself.
type report struct {
	Args    []string
	Env     []string
	File    string
	Modules string
	Mounts  string
	PID     int
}

// program runs in the guest.
func program(args []string) int {
	switch args[0] {
	case "report":
		r := report{Args: args, Env: os.Environ(), PID: os.Getpid()}
		for to, from := range map[*string]string{&r.File: "/data/sub/in.txt", &r.Modules: "/proc/modules", &r.Mounts: "/proc/mounts"} {
			b, err := os.ReadFile(from)
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
			*to = string(b)
		}
		json.NewEncoder(os.Stdout).Encode(r)
		fmt.Fprint(os.Stderr, "to stderr")
		os.WriteFile("/tmp/big", []byte(strings.Repeat("0123456789abcdef", bigFile/16)), 0o600)
		return 7
	case "panic":
		panic("a panic in the guest")
	case "hang":
		fmt.Println("hanging")
		time.Sleep(time.Hour)
	case "ok":
		io.WriteString(os.Stdout, "ok")
		return 0
	}
	return 99
}

const bigFile = 3 << 20

// machine is a machine that runs a program of this test binary.
func machine(t testing.TB, args ...string) Machine {
	t.Helper()
	in := Require(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Machine{QEMU: in.QEMUs[0], Kernel: in.Kernel, Init: exe, Args: args}
}

func mustBoot(t *testing.T, m Machine) *Result {
	t.Helper()
	res, err := Boot(context.Background(), m)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

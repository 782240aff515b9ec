//go:build linux && (amd64 || arm64)

package trace

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/cilium/ebpf"

	"gommu/internal/probe"
)

// victimPath builds the stripped victim, once for all tests.
var victimPath = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "gommu-trace-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "victim")
	out, err := exec.Command("go", "build", "-ldflags", "-s -w", "-o", path, "./testdata/victim").CombinedOutput()
	if err != nil {
		return path, fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path, _ := victimPath(); path != "" {
		_ = os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// program is a copy of the victim that no other test attaches to.
func program(t *testing.T) string {
	t.Helper()
	path, err := victimPath()
	if err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(t.TempDir(), "victim")
	b, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(own, b, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	return own
}

type victim struct {
	*exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

func start(t *testing.T, path string) *victim {
	t.Helper()
	v := &victim{Cmd: exec.Command(path)}
	v.Stderr = os.Stderr
	in, err := v.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := v.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	v.in, v.out = in, bufio.NewScanner(out)
	if err := v.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if v.ProcessState == nil {
			_ = v.Process.Kill()
			_ = v.Wait()
		}
	})
	return v
}

// tell gives the victim a command, waits until it has done it, and returns the probes that are on, as bits.
func (v *victim) tell(t *testing.T, command string) (on uint64) {
	t.Helper()
	if _, err := fmt.Fprintln(v.in, command); err != nil {
		t.Fatal(err)
	}
	if !v.out.Scan() {
		t.Fatalf("the victim has ended: %v", v.Wait())
	}
	if _, err := fmt.Sscanf(v.out.Text(), "on %d", &on); err != nil {
		t.Fatalf("%q: %v", v.out.Text(), err)
	}
	return on
}

// end lets the victim come to its end, which it must do well.
func (v *victim) end(t *testing.T) {
	t.Helper()
	_ = v.in.Close()
	if err := v.Wait(); err != nil {
		t.Errorf("the victim: %v", err)
	}
}

// opened is a tracer until the end of the test.
func opened(t *testing.T, o Options) *Tracer {
	t.Helper()
	tr, err := Open(o)
	rejected := (*ebpf.VerifierError)(nil)
	if (errors.Is(err, ErrPermission) || errors.Is(err, ErrKernel)) && !errors.As(err, &rejected) && os.Getenv("CI") == "" {
		t.Skipf("this machine does not let programs be traced: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 2 {
			if err := tr.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return tr
}

func snapshot(t *testing.T, tr *Tracer) Snapshot {
	t.Helper()
	s, err := tr.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// linked is the bits of the probes that the victim has calls of.
const linked = 1<<probe.Map | 1<<probe.Unmap | 1<<probe.Fault

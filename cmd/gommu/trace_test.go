//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gommu/iommu/trace"
)

func TestHistogram(t *testing.T) {
	var slots [trace.Slots]uint64
	slots[0], slots[2], slots[3] = 1, 2, 4
	want := `     nsecs               : count     distribution
         0 -> 1          : 1        |**********                              |
         2 -> 3          : 0        |                                        |
         4 -> 7          : 2        |********************                    |
         8 -> 15         : 4        |****************************************|
`
	if got := histogram(slots); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	slots[trace.Slots-1] = 4
	for line := range strings.Lines(histogram(slots)) {
		if len(line) > 120 || strings.Index(line, ":") != 45 {
			t.Errorf("%q", line)
		}
	}
}

func TestSlowest(t *testing.T) {
	s := &slowest{}
	for i := range 100 {
		s.add(trace.Event{Operation: trace.Map, Time: time.Duration(i * 37 % 100), Stack: []uint64{uint64(i / 4)}})
	}
	if len(s.list) != most {
		t.Fatalf("%d", len(s.list))
	}
	seen := map[uint64]bool{}
	for i, e := range s.list {
		if i > 0 && e.Time > s.list[i-1].Time || seen[e.Stack[0]] {
			t.Errorf("%+v", s.list)
		}
		seen[e.Stack[0]] = true
	}
	if s.list[0].Time != 99 {
		t.Errorf("the slowest is %v", s.list[0].Time)
	}
}

// victim starts the program that package trace's tests trace.
func victim(t *testing.T) (v *exec.Cmd, in io.Writer, out *bufio.Scanner) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "victim")
	if out, err := exec.Command("go", "build", "-ldflags", "-s -w", "-o", path, "../../iommu/trace/testdata/victim").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	v = exec.Command(path)
	w, err := v.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	r, err := v.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = v.Process.Kill(); _ = v.Wait() })
	return v, w, bufio.NewScanner(r)
}

// TestTraceProgram traces a program with the command, and ends that as Ctrl-C does.
func TestTraceProgram(t *testing.T) {
	v, in, out := victim(t)
	probe, err := trace.Open(trace.Options{PID: v.Process.Pid})
	if (errors.Is(err, trace.ErrPermission) || errors.Is(err, trace.ErrKernel)) && os.Getenv("CI") == "" {
		t.Skipf("this machine does not let programs be traced: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := probe.Close(); err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, asJSON := range []bool{true, false} {
		// The test binary is the command if it is called so, see TestMain.
		cmd := exec.Command(exe)
		cmd.Args = []string{"gommu", "trace", "--binary", v.Path, "--devices"}
		if asJSON {
			cmd.Args = append(cmd.Args, "--json")
		}
		var stdout strings.Builder
		cmd.Stdout = &stdout
		notes, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if lines := bufio.NewScanner(notes); !lines.Scan() || !strings.HasPrefix(lines.Text(), "Tracing") {
			t.Fatalf("%q", lines.Text())
		}
		if _, err := io.WriteString(in, "calls 1000\n"); err != nil || !out.Scan() {
			t.Fatalf("the victim: %v", err)
		}
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("the command: %v", err)
		}
		if !asJSON {
			for _, want := range []string{"operation = map, device = 00:02.0\n", "operation = unmap, device = 00:03.0\n", "nsecs", "Total of", "lost: 0 calls, 0 events"} {
				if !strings.Contains(stdout.String(), want) {
					t.Errorf("no %q in\n%s", want, &stdout)
				}
			}
			continue
		}
		var s struct {
			Total   bool
			Tallies []struct {
				Operation, Source string
				Count             uint64
				Slots             []uint64
			}
			Lost trace.Lost
		}
		if err := json.Unmarshal([]byte(stdout.String()), &s); err != nil {
			t.Fatalf("%v: %s", err, &stdout)
		}
		counts := map[string]uint64{}
		for _, l := range s.Tallies {
			counts[l.Operation+" "+l.Source] += l.Count
		}
		for what, want := range map[string]uint64{"map 00:02.0": 500, "map 00:03.0": 500, "unmap 00:02.0": 500, "unmap 00:03.0": 500, "fault 00:02.0": 10} {
			if counts[what] != want {
				t.Errorf("%s: %d, want %d", what, counts[what], want)
			}
		}
		if !s.Total || s.Lost != (trace.Lost{}) {
			t.Errorf("%s", &stdout)
		}
	}
}

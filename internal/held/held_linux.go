// Package held compares what this process holds of the system before and after
// a test: what was not there before is a leak.
//
// Both calls read /proc and block for milliseconds; Check waits up to seconds
// for what is on its way out. They look at the whole process, so tests that use them do not
// run beside others.
package held

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A State is what a process holds.
type State struct {
	things     []string
	goroutines int
}

// Now lists open files, mappings of files and devices, pinned memory, child
// processes and goroutines. The runtime opens some for itself at their first
// use and keeps them: let what is to be tested run once before.
func Now(t testing.TB) State {
	t.Helper()
	s := State{goroutines: runtime.NumGoroutine()}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		// The folder's own descriptor is gone by now.
		if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil {
			s.things = append(s.things, "file "+fd.Name()+" "+to)
		}
	}
	for line := range lines(t, "/proc/self/maps") {
		if f := strings.Fields(line); len(f) > 5 && !strings.HasPrefix(f[5], "[") {
			s.things = append(s.things, "mapping of "+f[5])
		}
	}
	for line := range lines(t, "/proc/self/status") {
		// VFIO counts pages that it has pinned as locked.
		if strings.HasPrefix(line, "VmLck") || strings.HasPrefix(line, "VmPin") {
			s.things = append(s.things, strings.TrimSpace(line))
		}
	}
	if unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil) != unix.ECHILD {
		s.things = append(s.things, "child processes")
	}
	slices.Sort(s.things)
	return s
}

func lines(t testing.TB, file string) func(func(string) bool) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Lines(string(b))
}

// settle is how long goroutines and children that were told to end may take.
const settle = 10 * time.Second

// Check fails the test if this process holds other things than before, or more
// goroutines.
func Check(t testing.TB, before State) {
	t.Helper()
	deadline := time.Now().Add(settle)
	for {
		now := Now(t)
		problem := now.compare(before)
		if problem == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("not as before: %s", problem)
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// compare says how s differs from before; it is empty if nothing leaked.
func (s State) compare(before State) string {
	var diff []string
	for _, e := range less(s.things, before.things) {
		diff = append(diff, "now "+e)
	}
	for _, e := range less(before.things, s.things) {
		diff = append(diff, "no longer "+e)
	}
	if s.goroutines > before.goroutines {
		diff = append(diff, fmt.Sprintf("%d goroutines, were %d", s.goroutines, before.goroutines))
	}
	return strings.Join(diff, "; ")
}

// less returns a without b, counting how often each is there.
func less(a, b []string) []string {
	a = slices.Clone(a)
	for _, e := range b {
		if i := slices.Index(a, e); i >= 0 {
			a = slices.Delete(a, i, i+1)
		}
	}
	return a
}

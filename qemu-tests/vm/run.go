package vm

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gommu/qemu-tests/provision"
)

// A Config says which tests Run runs, and in which machine. Only Package is needed.
type Config struct {
	Machine

	// Package is the package whose tests run: an import path, or a path that
	// starts with "./" or "../" and counts from the package that calls Run. Its TestMain
	// calls guest.Main. Its files (testdata) are not there unless Machine.Files says so.
	Package string
	// Tests is a pattern as for -run; "" is all. Machine.Args are further flags:
	// "-test.bench=.".
	Tests string
	// Race compiles with the race detector, Cgo with cgo; both need a C compiler.
	Race, Cgo bool
	// Tags are build tags, separated by commas.
	Tags string
	// CoverProfile is where the coverage profile goes; "" measures none. CoverPkg is as
	// for -coverpkg; "" is Package.
	CoverProfile, CoverPkg string
	// LogDir is where a folder with the logs is made if the run fails; "" is
	// os.TempDir().
	LogDir string
}

const coverPath = "/tmp/gommu-cover.out"

// Run runs the tests of a package in a guest. Each becomes a subtest of t, passed, failed
// or skipped as it was there, with its log. A guest that panics, hangs, dies, or runs no
// test at all fails t, and the message names the folder that has the serial log.
//
// Without QEMU or a kernel Run skips, see [Require]. Machine.Init is ignored.
func Run(t *testing.T, c Config) {
	t.Helper()
	installed := Require(t)
	if c.QEMU.Path == "" {
		c.QEMU = installed.QEMUs[0]
	}
	if c.Kernel.Image == "" {
		c.Kernel = installed.Kernel
	}
	m, err := c.machine()
	if err != nil {
		t.Fatal(err)
	}
	b := build{pkg: c.Package, race: c.Race, cgo: c.Cgo, cover: c.CoverProfile != "", coverPkg: c.CoverPkg, tags: c.Tags}
	program, err := b.program(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	res, err := boot(t.Context(), m, program)
	if stumbled(res) {
		t.Logf("the emulated machine failed by itself, so it is booted again: %v\n%s", err, res.QEMULog)
		res, err = boot(t.Context(), m, program)
	}
	if res == nil {
		t.Fatal(err)
	}
	js, convErr := events(t.Context(), res.Stdout)
	if convErr != nil {
		t.Fatal(convErr)
	}
	tests, parseErr := parseEvents(js)
	if parseErr != nil {
		t.Fatal(parseErr)
	}
	tests.replay(t)
	for _, p := range problems(c, res, tests, err) {
		t.Error(p)
	}
	if t.Failed() {
		dir, err := keepLogs(c.LogDir, res)
		t.Errorf("logs of the guest are kept in %s", dir)
		if err != nil {
			t.Error(err)
		}
	}
}

// stumbled reports whether the machine failed by what looks like a race of the emulation before the program was started. Seen once each in some hundred
// boots on a loaded machine: QEMU 10.0 aborts where a processor's access meets a change of the memory map; in QEMU 7.2 the kernel
// runs into the breakpoint that it has put, and taken away, where it patches its own code.
func stumbled(res *Result) bool {
	return res != nil && res.Started == 0 &&
		(bytes.Contains(res.QEMULog, []byte("iotlb_to_section: Assertion")) || bytes.Contains(res.Console, []byte("Oops: int3")))
}

// machine is the machine with the arguments of the test binary.
func (c Config) machine() (Machine, error) {
	m, err := c.Machine.withDefaults()
	if err != nil {
		return m, err
	}
	// The guest's own time limit comes first and also ends what hangs in TestMain.
	args := []string{"-test.v=test2json", "-test.paniconexit0", "-test.timeout=0"}
	if c.Tests != "" {
		args = append(args, "-test.run="+c.Tests)
	}
	if testing.Short() {
		args = append(args, "-test.short")
	}
	if c.CoverProfile != "" {
		args = append(args, "-test.coverprofile="+coverPath)
		fetch := map[string]string{coverPath: c.CoverProfile}
		for k, v := range m.Fetch {
			fetch[k] = v
		}
		m.Fetch = fetch
	}
	m.Args = append(args, m.Args...)
	return m, nil
}

// problems says what is wrong with a run apart from the tests that failed.
func problems(c Config, res *Result, tests *guestTest, err error) []string {
	var p []string
	switch {
	case err != nil:
		p = append(p, err.Error())
	case res.ExitCode != 0 && !tests.failed():
		p = append(p, fmt.Sprintf("no guest test failed, but the exit code is %d %s", res.ExitCode, res.Signal))
	case len(tests.subs) == 0:
		p = append(p, fmt.Sprintf("no test of %s ran in the guest (pattern %q)", c.Package, c.Tests))
	case c.CoverProfile != "" && len(res.Missing) > 0:
		p = append(p, fmt.Sprintf("the guest did not write %s", strings.Join(res.Missing, ", ")))
	}
	if len(p) > 0 || tests.failed() {
		// What belongs to no test: a panic's trace, what TestMain said.
		if text := strings.TrimSpace(tests.output.String()); text != "" {
			p = append(p, "in the guest, outside of tests:\n"+text)
		}
		if text := lastLines(res.Stderr, 200); text != "" {
			p = append(p, "stderr of the guest:\n"+text)
		}
	}
	return p
}

// keepLogs writes what a failed run left behind into a new folder.
func keepLogs(dir string, res *Result) (string, error) {
	dir, err := os.MkdirTemp(dir, "gommu-vm-")
	if err != nil {
		return "", err
	}
	for name, b := range map[string][]byte{
		"console.log": res.Console,
		"kernel.log":  res.KernelLog,
		"qemu.log":    append([]byte(strings.Join(res.Command, " ")+"\n"), res.QEMULog...),
		"stdout":      res.Stdout,
		"stderr":      res.Stderr,
	} {
		if len(b) == 0 {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			return dir, err
		}
	}
	return dir, nil
}

// Require returns the QEMUs (newest first) and the kernel of this machine, or skips the test, or
// fails it: see [provision.Require]. The rung is "vm".
func Require(t testing.TB) provision.Installed {
	t.Helper()
	return provision.Require(t, "vm", provision.Options{})
}

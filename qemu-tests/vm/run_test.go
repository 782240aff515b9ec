package vm

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestRun runs real tests in a guest and has their coverage back.
func TestRun(t *testing.T) {
	t.Parallel()
	profile := filepath.Join(t.TempDir(), "cover.out")
	Run(t, Config{
		Package:      "../guest",
		Tests:        "^TestBoot",
		CoverProfile: profile,
		CoverPkg:     "gommu/qemu-tests/vm/guest",
	})
	b, err := os.ReadFile(profile)
	if err != nil {
		t.Fatal(err)
	}
	// SkipUnlessInside ran and did not skip: its first block counts, the second does not.
	for _, want := range []string{`^mode: set\n`, `(?m)^gommu/qemu-tests/vm/guest/guest\.go:.* [1-9][0-9]*$`, `(?m)^gommu/qemu-tests/vm/guest/guest\.go:.* 0$`} {
		if !regexp.MustCompile(want).Match(b) {
			t.Errorf("the profile lacks %s:\n%s", want, b)
		}
	}
}

// inHelper is set where this test binary runs itself to see a test of its own fail.
const inHelper = "GOMMU_VM_TEST_HELPER"

// runHelper runs one test of this binary, which is to fail, and returns its output.
func runHelper(t *testing.T, name string, env ...string) string {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^"+name+"$", "-test.v", "-test.count=1")
	cmd.Env = append(append(os.Environ(), inHelper+"=1"), env...)
	out, err := cmd.CombinedOutput()
	if _, ok := err.(*exec.ExitError); !ok {
		t.Fatalf("%s ended with %v, want a failure:\n%s", name, err, out)
	}
	return string(out)
}

// TestRunFails has the failures of a guest carried over, and its logs kept where the message
// says.
func TestRunFails(t *testing.T) {
	logs := os.Getenv("GOMMU_VM_TEST_LOGS")
	if os.Getenv(inHelper) == "1" {
		Run(t, Config{Package: "./testdata/failing", LogDir: logs})
		return
	}
	t.Parallel()
	Require(t)
	logs = t.TempDir()
	out := runHelper(t, t.Name(), "GOMMU_VM_TEST_LOGS="+logs)
	for _, want := range []string{
		`--- PASS: TestRunFails/TestPass `,
		`--- SKIP: TestRunFails/TestSkip `,
		`--- FAIL: TestRunFails/TestParent `,
		`--- PASS: TestRunFails/TestParent/pass `,
		`--- FAIL: TestRunFails/TestParent/with/slash_and_space `,
		`--- SKIP: TestRunFails/TestParent/skip `,
		`--- FAIL: TestRunFails/TestPanic `,
		`log of a pass`, `log of a skip`, `log of a failure`, `log of a skip below`,
		`panic: a panic in the guest`, `failing_test.go:`, `said before the panic`,
		`logs of the guest are kept in ` + logs,
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the output lacks %q", want)
		}
	}
	if strings.Contains(out, "TestNever") {
		t.Error("a test that did not run is reported")
	}
	kept, _ := filepath.Glob(filepath.Join(logs, "gommu-vm-*", "*"))
	for _, want := range []string{"qemu.log", "kernel.log", "stdout", "stderr"} {
		if !strings.Contains(strings.Join(kept, "\n"), "/"+want) {
			t.Errorf("%s was not kept: %q", want, kept)
		}
	}
	if t.Failed() {
		t.Logf("output:\n%s", out)
	}
}

// TestProblems: what is wrong with a run besides tests that failed; a run of no tests is no pass.
func TestProblems(t *testing.T) {
	passed := &guestTest{subs: []*guestTest{{name: "TestA", action: "pass"}}}
	failed := &guestTest{subs: []*guestTest{{name: "TestA", action: "pass", subs: []*guestTest{{action: "fail"}}}}}
	for _, c := range []struct {
		name  string
		cfg   Config
		res   Result
		tests *guestTest
		err   error
		want  string
	}{
		{name: "passed", tests: passed},
		{name: "a test failed", tests: failed, res: Result{ExitCode: 1}},
		{name: "no tests", cfg: Config{Package: "p", Tests: "x"}, tests: &guestTest{}, want: `no test of p ran in the guest (pattern "x")`},
		{name: "exit code", tests: passed, res: Result{ExitCode: 3, Stderr: []byte("why")}, want: "exit code is 3"},
		{name: "time limit", tests: passed, err: &Error{Op: "boot", Err: ErrTimeout}, want: "time limit reached"},
		{name: "no coverage", cfg: Config{CoverProfile: "c"}, res: Result{Missing: []string{"/tmp/c"}}, tests: passed, want: "did not write /tmp/c"},
	} {
		got := strings.Join(problems(c.cfg, &c.res, c.tests, c.err), "\n")
		if c.want == "" && got != "" || !strings.Contains(got, c.want) || !strings.Contains(got, string(c.res.Stderr)) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// TestBuild: what does not compile or has no tests is an error with the compiler's words, and what was
// compiled once is not compiled again.
// TestStumbled: only what QEMU does to itself is tried again, and only before there is anything to tell.
func TestStumbled(t *testing.T) {
	aborted := []byte("qemu-system-x86_64: system/physmem.c:2678: iotlb_to_section: Assertion `section_index < d->map.sections_nb' failed.\n")
	for _, c := range []struct {
		res  *Result
		want bool
	}{
		{nil, false},
		{&Result{}, false},
		{&Result{QEMULog: aborted}, true},
		{&Result{QEMULog: aborted, Started: 1}, false},
		{&Result{Console: []byte("[    3.114724] Oops: int3: 0000 [#1]")}, true},
		{&Result{Console: []byte("[    3.114724] Oops: int3: 0000 [#1]"), Started: 1}, false},
		{&Result{Console: []byte("Kernel panic - not syncing")}, false},
		{&Result{QEMULog: []byte("qemu-system-x86_64: Assertion `x' failed")}, false},
	} {
		if got := stumbled(c.res); got != c.want {
			t.Errorf("%+v: %v", c.res, got)
		}
	}
}

func TestBuild(t *testing.T) {
	if _, err := (build{pkg: "./testdata/none"}).program(t.Context()); err == nil || !strings.Contains(err.Error(), "testdata/none") {
		t.Errorf("%v", err)
	}
	if _, err := (build{pkg: "errors", tags: "gommu"}).program(t.Context()); err != nil {
		t.Error(err)
	}
	a, err := (build{pkg: "errors", tags: "gommu"}).program(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b, _ := (build{pkg: "errors", tags: "gommu"}).program(t.Context())
	if &a[0] != &b[0] {
		t.Error("compiled twice")
	}
}

// TestParseEvents reads recorded output of a test binary: benchmarks, slashes in names, a test that did not
// end.
func TestParseEvents(t *testing.T) {
	raw, err := os.ReadFile("testdata/output.txt")
	if err != nil {
		t.Fatal(err)
	}
	js, err := events(t.Context(), raw)
	if err != nil {
		t.Fatal(err)
	}
	tests, err := parseEvents(js)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	var dump func(*guestTest, string)
	dump = func(g *guestTest, indent string) {
		for _, s := range g.subs {
			b.WriteString(indent + s.name + ": " + s.action + "\n")
			for line := range strings.Lines(s.output.String()) {
				b.WriteString(indent + "| " + line)
			}
			dump(s, indent+"  ")
		}
	}
	dump(tests, "")
	want, err := os.ReadFile("testdata/tree.txt")
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	if !tests.failed() {
		t.Error("not seen as failed")
	}
	if _, err := parseEvents([]byte("{")); err == nil {
		t.Error("a cut event is accepted")
	}
}

package nosleep_test

import (
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var onHeap = regexp.MustCompile(`(?m)^\S*escape\.go:(\d+):\d+: (.*(?:moved|escapes) to heap.*)$`)

// TestCompiler asks the compiler which variables of package escape it puts on the heap: for each of them the
// corpus expects a report. What it expects beyond that is where the analyzer sees less than the compiler.
func TestCompiler(t *testing.T) {
	const file = "testdata/src/escape/escape.go"
	source, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(source), "\n")
	out, err := exec.Command("go", "build", "-gcflags=-m -l", "./testdata/src/escape").CombinedOutput()
	if err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	found := onHeap.FindAllStringSubmatch(string(out), -1)
	if len(found) < 10 {
		t.Errorf("the compiler has %d variables on the heap, of a corpus that has more", len(found))
	}
	for _, m := range found {
		line, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(lines[line-1], "want") {
			t.Errorf("%s:%d: the compiler says %q and the corpus nothing: %s", file, line, m[2], lines[line-1])
		}
	}
}

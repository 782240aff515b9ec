package vm

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
)

// An event is what "go doc test2json" says, as far as it is needed.
type event struct {
	Action string
	Test   string
	Output string
}

// A guestTest is a test that ran in the guest; the one without a name is the whole binary.
type guestTest struct {
	name   string // last part
	full   string
	action string // "pass", "fail", "skip", or "" if it did not come to an end
	output strings.Builder
	subs   []*guestTest
}

// parseEvents builds the tree of tests.
func parseEvents(js []byte) (*guestTest, error) {
	root := &guestTest{}
	tests := map[string]*guestTest{"": root}
	d := json.NewDecoder(bytes.NewReader(js))
	for {
		var e event
		if err := d.Decode(&e); errors.Is(err, io.EOF) {
			return root, nil
		} else if err != nil {
			return nil, &Error{Op: "parse test events", Err: err}
		}
		t := tests[e.Test]
		if t == nil {
			up := parent(tests, e.Test)
			t = &guestTest{full: e.Test, name: strings.TrimPrefix(strings.TrimPrefix(e.Test, up.full), "/")}
			tests[e.Test] = t
			up.subs = append(up.subs, t)
		}
		switch e.Action {
		case "output":
			if !isMarker(e.Output) {
				t.output.WriteString(e.Output)
			}
		case "pass", "fail", "skip":
			t.action = e.Action
		case "bench": // a benchmark has no other end
			t.action = "pass"
		}
	}
}

// parent is the test that a test of this name is a subtest of: names may have slashes of
// their own.
func parent(tests map[string]*guestTest, name string) *guestTest {
	for {
		i := strings.LastIndexByte(name, '/')
		if i < 0 {
			return tests[""]
		}
		name = name[:i]
		if t, ok := tests[name]; ok {
			return t
		}
	}
}

// isMarker reports whether a line is one by which the testing package marks the course of a
// test: the host's writes its own.
func isMarker(line string) bool {
	line = strings.TrimLeft(line, " ")
	for _, m := range []string{"=== RUN ", "=== PAUSE ", "=== CONT ", "=== NAME ", "--- PASS: ", "--- FAIL: ", "--- SKIP: "} {
		if strings.HasPrefix(line, m) {
			return true
		}
	}
	return line == "PASS\n" || line == "FAIL\n"
}

// replay makes the subtests of a guest test subtests of t.
func (g *guestTest) replay(t *testing.T) {
	for _, s := range g.subs {
		t.Run(s.name, func(t *testing.T) {
			s.replay(t)
			if text := strings.TrimRight(s.output.String(), "\n"); text != "" {
				t.Log("in the guest:\n" + text)
			}
			switch s.action {
			case "pass":
			case "skip":
				t.SkipNow()
			case "fail":
				t.Fail()
			default:
				t.Error("the guest ended while this test ran")
			}
		})
	}
}

// failed reports whether a test failed or did not end.
func (g *guestTest) failed() bool {
	for _, s := range g.subs {
		if s.failed() || s.action == "fail" || s.action == "" {
			return true
		}
	}
	return false
}

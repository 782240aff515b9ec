//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gommu/qemu-tests/measure"
	"gommu/qemu-tests/vm"
)

// tiny is enough to have each figure once.
var tiny = measure.Extent{Short: true, Budget: time.Nanosecond, Samples: 1}

// benchOn runs gommu bench on the model with few samples.
func benchOn(t *testing.T, opts benchOptions) (stdout, stderr string, err error) {
	t.Helper()
	var out, notes bytes.Buffer
	cmd := newBench()
	cmd.SetContext(t.Context())
	cmd.SetOut(&out)
	cmd.SetErr(&notes)
	opts.on, opts.extent = "model", tiny
	err = runBench(cmd, opts)
	return out.String(), notes.String(), err
}

// rowKeys are what each row has for whoever reads the JSON.
var rowKeys = map[string]bool{ // whether it is a number
	"name": false, "policy": false, "peer": false,
	"ns_p50": true, "ns_p99": true, "ns_p9999": true, "allocs": true, "ratio": true,
}

// checkBenchReport checks the JSON of a report, and that it has a row for each of ways.
func checkBenchReport(t *testing.T, text []byte, rung string, ways ...string) {
	t.Helper()
	var r struct {
		Rung, Machine *string
		Rows          []map[string]any
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	if err := dec.Decode(&r); err != nil || dec.More() {
		t.Fatalf("not one JSON object: %v: %.300s", err, text)
	}
	if r.Rung == nil || *r.Rung != rung || r.Machine == nil || *r.Machine == "" {
		t.Errorf("rung and machine: %.100s", text)
	}
	seen := map[string]bool{}
	for _, row := range r.Rows {
		for key, number := range rowKeys {
			_, is := row[key].(float64)
			if _, text := row[key].(string); is != number || text == number {
				t.Errorf("%s is %v in %v", key, row[key], row)
			}
		}
		if row["peer"] == "" || row["ratio"].(float64) < 0 {
			t.Errorf("compared with nothing: %v", row)
		}
		seen[strings.Join([]string{row["way"].(string), row["policy"].(string), row["name"].(string)}, " ")] = true
	}
	for _, way := range ways {
		for _, s := range measure.Shapes() {
			for _, what := range []string{"map+unmap ", "map ", "unmap "} {
				if !seen[way+" "+what+s.Name] {
					t.Errorf("no row of %s, %s%s", way, what, s.Name)
				}
			}
		}
	}
}

// TestBenchModel: each shape under each policy and by each peer, as JSON, with nothing but that on stdout.
func TestBenchModel(t *testing.T) {
	out, notes, err := benchOn(t, benchOptions{asJSON: true})
	if err != nil {
		t.Fatal(err)
	}
	checkBenchReport(t, []byte(out), "model", "own tables strict", "own tables batched", "own tables ring", "mutex and list strict", "mutex and list batched")
	if !strings.Contains(notes, "model 1/") {
		t.Errorf("no progress is shown: %q", notes)
	}
}

// TestBenchText: the same for people, and both kinds of plot.
func TestBenchText(t *testing.T) {
	svg, png := filepath.Join(t.TempDir(), "a.svg"), filepath.Join(t.TempDir(), "a.PNG")
	out, _, err := benchOn(t, benchOptions{plot: svg})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"own tables", "batched", "ring", "sg16", "empty loop", "mutex and list", "itself", "gc+storm", "wanted <= 10", "TOGETHER", "reading the clock"} {
		if !strings.Contains(out, want) {
			t.Errorf("the tables lack %q", want)
		}
	}
	if strings.Contains(out, "%!") {
		t.Errorf("a bad format:\n%s", out)
	}
	text, err := os.ReadFile(svg)
	if err != nil || !bytes.Contains(text, []byte("map and unmap sg16")) || !bytes.Contains(text, []byte("own tables, ring")) || !bytes.Contains(text, []byte("p99.99")) {
		t.Errorf("the plot: %v, %.200s", err, text)
	}
	if err := plotBench(png, &measure.Report{}); err != nil {
		t.Error("a report without rows:", err)
	}
	if text, err = os.ReadFile(png); err != nil || !bytes.HasPrefix(text, []byte("\x89PNG")) {
		t.Errorf("no PNG: %v, %.8q", err, text)
	}
	out, _, err = benchOn(t, benchOptions{plot: "/proc/none.svg"})
	if err == nil || !strings.Contains(err.Error(), "--plot") || !strings.Contains(out, "own tables") {
		t.Errorf("a plot that cannot be written: %v", err)
	}
}

// TestBenchNumbers: times and numbers as people read them.
func TestBenchNumbers(t *testing.T) {
	for ns, want := range map[float64]string{0: "-", 3.14159: "3.14ns", 99.96: "100ns", 261: "261ns", 4567: "4.57µs", 15_432_100: "15.4ms"} {
		if got := nanoseconds(ns); got != want {
			t.Errorf("%g ns is %q, want %q", ns, got, want)
		}
	}
	for x, want := range map[float64]string{0.00512345: "0.00512", 12.345: "12.3", 12345.6: "12346"} {
		if got := number(x); got != want {
			t.Errorf("%g is %q, want %q", x, got, want)
		}
	}
	if percent(0) != "0" || percent(0.0123) != "1.23%" {
		t.Errorf("%q, %q", percent(0), percent(0.0123))
	}
}

// TestBenchVM measures little in both guests and makes one report of it.
func TestBenchVM(t *testing.T) {
	in := vm.Require(t)
	var notes bytes.Buffer
	r, err := benchVM(t.Context(), benchGuests{in: in, program: testProgram, extent: tiny}, newBenchSteps(&notes))
	if err != nil {
		t.Fatalf("%v\n%s", err, notes.String())
	}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	checkBenchReport(t, text, "vm", "own tables strict", "own tables batched", "own tables ring", "premapped premapped", "VFIO ioctls ioctl")
	for _, row := range r.Rows {
		if row.Way == "own tables" && !strings.HasPrefix(row.Peer, "VFIO ioctls") {
			t.Errorf("%s is compared with %s", row.Name, row.Peer)
		}
	}
	if len(r.Clocks) != 2 || len(r.Targets) != 6 || !strings.Contains(r.Machine, in.QEMUs[0].Version) || !strings.Contains(notes.String(), "unit Linux's 1/") {
		t.Errorf("%d clocks, targets %+v, machine %q, progress %q", len(r.Clocks), r.Targets, r.Machine, notes.String())
	}
}

// TestBenchVMFails: a guest whose program fails is an error that says what it said, and so is one
// without a report.
func TestBenchVMFails(t *testing.T) {
	in := vm.Require(t)
	failing := func(args ...string) (vm.Machine, error) { return testProgram("bench-guest", "--unit", "theirs") }
	b := benchGuest{}
	if _, err := b.run(t.Context(), benchGuests{in: in, program: failing}, benchParts[0]); err == nil || !strings.Contains(err.Error(), `"theirs"`) {
		t.Errorf("a program that fails: %v", err)
	}
	if err := b.verdict(&vm.Result{}); err == nil || !strings.Contains(err.Error(), "without a report") {
		t.Errorf("no report: %v", err)
	}
	none := func(args ...string) (vm.Machine, error) { return vm.Machine{}, errInjected }
	if _, err := benchVM(context.Background(), benchGuests{in: in, program: none}, newBenchSteps(&bytes.Buffer{})); err == nil || !strings.Contains(err.Error(), "unit ours") {
		t.Errorf("no program: %v", err)
	}
}

// TestBenchLines: what a guest writes may come in any pieces, with other lines between.
func TestBenchLines(t *testing.T) {
	text := "=== RUN\n{\"done\":3,\"of\":9,\"what\":\"x\"}\n{broken\n{\"done\":0,\"of\":0,\"report\":{\"rung\":\"r\"}}\nPASS\n"
	for size := 1; size < len(text); size++ {
		var steps []int
		b := benchGuest{progress: func(done, of int, _ string) { steps = append(steps, done, of) }}
		for rest := text; rest != ""; {
			n := min(size, len(rest))
			if w, err := b.Write([]byte(rest[:n])); w != n || err != nil {
				t.Fatal(w, err)
			}
			rest = rest[n:]
		}
		if len(steps) != 2 || steps[0] != 3 || steps[1] != 9 || b.report == nil || b.report.Rung != "r" {
			t.Fatalf("in pieces of %d: %d, %+v", size, steps, b.report)
		}
	}
}

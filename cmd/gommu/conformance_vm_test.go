//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"gommu/qemu-tests/conformance"
	"gommu/qemu-tests/provision"
	"gommu/qemu-tests/vm"
	"gommu/qemu-tests/vm/guest"
)

// testProgram is the command as this test binary has it, in TestInGuest.
func testProgram(args ...string) (vm.Machine, error) {
	self, err := os.Executable()
	return vm.Machine{Init: self, Args: []string{"-test.run=^TestInGuest$"}, Env: []string{"GOMMU_LINES=" + strings.Join(args, "\n")}}, err
}

// TestInGuest is the command in a guest: its arguments are the lines of GOMMU_LINES.
func TestInGuest(t *testing.T) {
	guest.SkipUnlessInside(t)
	os.Args = append([]string{"gommu"}, strings.Split(os.Getenv("GOMMU_LINES"), "\n")...)
	if code := run(); code != 0 {
		t.Fatalf("exit code %d", code)
	}
}

// TestConformanceVM runs every tenth case of the suite in guests, on every QEMU and in every mode. The gate runs
// all of them by gommu conformance --on vm, as a user would.
func TestConformanceVM(t *testing.T) {
	in, cases := vm.Require(t), conformance.Cases()
	n := 0
	cases = slices.DeleteFunc(cases, func(conformance.Case) bool { n++; return n%10 != 1 })
	results, err := runJobs(t.Context(), vmSuite{in, testProgram}.jobs(), cases)
	if err != nil {
		t.Error(err)
	}
	got := make(map[string]int)
	for _, r := range results {
		if r.Rung != "vm" {
			t.Errorf("%s reports rung %q", r.Case, r.Rung)
		}
		name := fmt.Sprintf("%s/%s/%s", r.QEMU, r.Mode, r.Case)
		got[name]++
		t.Run(name, func(t *testing.T) {
			switch r.Outcome {
			case conformance.Fail:
				t.Error(r.Why)
			case conformance.Skip:
				t.Skip(r.Why)
			}
		})
	}
	want := len(cases) * len(conformance.Modes) * len(in.QEMUs)
	if len(got) != want || len(results) != want {
		t.Errorf("%d results of %d cases, want %d", len(results), len(got), want)
	}
}

// TestConformanceVMBroken: a guest whose program fails on the way gives a result for every
// case all the same.
func TestConformanceVMBroken(t *testing.T) {
	in := vm.Require(t)
	cases := conformance.CasesFor(conformance.Cases(), conformance.Variant{}, conformance.Legacy)[:2]
	var got []conformance.Result
	s := vmSuite{in: in, program: func(args ...string) (vm.Machine, error) {
		// The first case in the first mode, and then a mode that there is not.
		return testProgram(args[0], "--mode", "legacy", "--mode", "sideways", cases[0].Name)
	}}
	b := vmBoot{suite: s, qemu: in.QEMUs[0], modes: vmModes[0], cases: cases, report: func(r conformance.Result) { got = append(got, r) }}
	if err := b.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(got) != 4 {
		t.Fatalf("%d results, want 4", len(got))
	}
	for i, r := range got {
		if i == 0 && (r.Case != cases[0].Name || r.Outcome != conformance.Pass || r.Rung != "vm") {
			t.Errorf("%+v, want the first case passed", r)
		}
		if i > 0 && (r.Outcome != conformance.Fail || !strings.Contains(r.Why, "exit code 1")) {
			t.Errorf("%+v, want a failure that names the exit code", r)
		}
	}
}

// TestConformanceVMUnavailable: what no QEMU has is skipped without a guest, and a
// context that has ended ends it.
func TestConformanceVMUnavailable(t *testing.T) {
	var got []conformance.Result
	s := vmSuite{program: func(...string) (vm.Machine, error) { return vm.Machine{}, errInjected }}
	q := provision.QEMU{Path: "/nowhere", Version: "7.2.0"}
	first := []conformance.Mode{conformance.ScalableFirst}
	cases := conformance.CasesFor(conformance.Cases(), conformance.Variant{}, first...)
	run := func(ctx context.Context) error {
		return s.run(ctx, q, first, cases, func(r conformance.Result) { got = append(got, r) })
	}
	if err := run(t.Context()); err != nil || len(got) != len(cases) {
		t.Errorf("%d results of %d cases, %v", len(got), len(cases), err)
	}
	for _, r := range got {
		if r.Outcome != conformance.Skip || !strings.Contains(r.Why, "first-stage") {
			t.Errorf("%+v, want a skip that says why", r)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := run(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that of the context", err)
	}
	q.Version = "10.0.2"
	if err := run(t.Context()); !errors.Is(err, errInjected) {
		t.Errorf("error %v, want why the program is not there", err)
	}
}

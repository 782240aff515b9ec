//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"gommu/qemu-tests/conformance"
	"gommu/qemu-tests/provision"
	"gommu/qemu-tests/vm"
)

// testProgram is the command as this test binary has it, in TestGuestCommand.
func testProgram(t *testing.T) func(args ...string) vm.Machine {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return func(args ...string) vm.Machine {
		return vm.Machine{Init: self, Args: []string{"-test.run=^TestGuestCommand$"}, Env: []string{"GOMMU_ARGS=" + strings.Join(args, " ")}}
	}
}

// TestConformanceVM runs the suite in guests: every case on every QEMU and in every mode that
// it is for.
func TestConformanceVM(t *testing.T) {
	in := vm.Require(t)
	got := make(map[string]int)
	s := vmSuite{in: in, cases: conformance.Cases(), program: testProgram(t), report: func(r conformance.Result) {
		if r.Rung != "vm" {
			t.Errorf("%s reports rung %q", r.Case, r.Rung)
		}
		got[fmt.Sprintf("%s/%s/%s", r.QEMU, r.Mode, r.Case)]++
		t.Run(fmt.Sprintf("%s/%s/%s", r.QEMU, r.Mode, r.Case), func(t *testing.T) {
			t.Logf("%.0f ms", r.MS)
			switch r.Outcome {
			case conformance.Fail:
				t.Error(r.Why)
			case conformance.Skip:
				t.Skip(r.Why)
			}
		})
	}}
	if err := s.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := 0
	for _, m := range conformance.Modes {
		for _, v := range conformance.Variants(s.cases) {
			want += len(conformance.CasesFor(s.cases, v, m)) * len(in.QEMUs)
		}
	}
	if len(got) != want {
		t.Errorf("%d results, want %d", len(got), want)
	}
	for name, n := range got {
		if n != 1 {
			t.Errorf("%s was reported %d times", name, n)
		}
	}
}

// TestConformanceVMBroken: a guest whose program fails on the way gives a result for every
// case all the same.
func TestConformanceVMBroken(t *testing.T) {
	in := vm.Require(t)
	cases := conformance.CasesFor(conformance.Cases(), conformance.Variant{}, conformance.Legacy)[:2]
	var got []conformance.Result
	program := testProgram(t)
	s := vmSuite{in: in, cases: cases, report: func(r conformance.Result) { got = append(got, r) }, program: func(args ...string) vm.Machine {
		// The first case in the first mode, and then a mode that there is not.
		return program(args[0], "--mode", "legacy", "--mode", "sideways", cases[0].Name)
	}}
	b := vmBoot{suite: &s, qemu: in.QEMUs[0], modes: vmModes[0], cases: cases}
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
	s := vmSuite{
		in:      provision.Installed{QEMUs: []provision.QEMU{{Path: "/nowhere", Version: "7.2.0"}}},
		cases:   conformance.CasesFor(conformance.Cases(), conformance.Variant{}, conformance.ScalableFirst),
		report:  func(r conformance.Result) { got = append(got, r) },
		program: func(...string) vm.Machine { return vm.Machine{} },
	}
	b := vmBoot{suite: &s, qemu: s.in.QEMUs[0], modes: []conformance.Mode{conformance.ScalableFirst}, cases: s.cases}
	if err := b.run(t.Context()); err != nil || len(got) != len(s.cases) {
		t.Errorf("%d results of %d cases, %v", len(got), len(s.cases), err)
	}
	for _, r := range got {
		if r.Outcome != conformance.Skip || !strings.Contains(r.Why, "first-stage") {
			t.Errorf("%+v, want a skip that says why", r)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.run(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that of the context", err)
	}
}

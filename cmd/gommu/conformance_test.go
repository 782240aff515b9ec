//go:build linux

package main

import (
	"context"
	"errors"
	"strings"
	"testing"

	"gommu/qemu-tests/conformance"
)

// Jobs run at once, and their results keep the order of the jobs.
func TestRunJobs(t *testing.T) {
	second := make(chan struct{})
	result := func(name string) conformance.Result {
		return conformance.Result{Case: name, Outcome: conformance.Pass}
	}
	jobs := []conformanceJob{
		func(_ context.Context, _ []conformance.Case, report func(conformance.Result)) error {
			report(result("a"))
			<-second
			report(result("b"))
			return nil
		},
		func(_ context.Context, _ []conformance.Case, report func(conformance.Result)) error {
			report(result("c"))
			close(second)
			return errInjected
		},
	}
	got, err := runJobs(t.Context(), jobs, nil)
	var names string
	for _, r := range got {
		names += r.Case
	}
	if names != "abc" || !errors.Is(err, errInjected) {
		t.Errorf("results %q, error %v", names, err)
	}
}

func TestWriteConformance(t *testing.T) {
	b := &strings.Builder{}
	err := writeConformance(b, []conformance.Result{
		{Case: "a", Rung: "model", Mode: conformance.Legacy, Outcome: conformance.Pass, MS: 100},
		{Case: "b", Rung: "model", Mode: conformance.Legacy, Outcome: conformance.Fail, Why: "it\nbroke"},
		{Case: "a", Rung: "qtest", Mode: conformance.Legacy, QEMU: "7.2", Outcome: conformance.Skip, Why: "cannot"},
		{Case: "b", Rung: "qtest", Mode: conformance.Legacy, QEMU: "7.2", Outcome: conformance.Skip, Why: "cannot"},
	}, false)
	want := "model legacy: 1 passed, 1 failed, 0 skipped, 0.1 s\n  FAIL  b: it\n        broke\n" +
		"qtest legacy, QEMU 7.2: 0 passed, 0 failed, 2 skipped, 0.0 s\n  skip    2 × cannot\n"
	if err != nil || b.String() != want {
		t.Errorf("wrote\n%s, %v, want\n%s", b, err, want)
	}
}

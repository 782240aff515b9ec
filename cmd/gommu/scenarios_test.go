//go:build linux

package main

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"gommu/respool/scenario"
)

// Whatever does not end as it says is an error that names it.
func TestScenariosVerdict(t *testing.T) {
	good := scenario.Result{Scenario: "abc", Expected: scenario.Deadlock, Got: scenario.Deadlock, OK: true}
	bad := scenario.Result{Scenario: "raid1", Discipline: scenario.PoolFirst, Way: "by hand", Expected: scenario.Finished, Got: scenario.Broken, Error: "oops"}
	if err := (&scenariosReport{Results: []scenario.Result{good}}).verdict(); err != nil {
		t.Error(err)
	}
	err := (&scenariosReport{Results: []scenario.Result{good, bad}}).verdict()
	if !errors.Is(err, errScenarios) || !strings.Contains(err.Error(), "1 of 2: raid1, pool-first, by hand: broken instead of finished (oops)") {
		t.Error(err)
	}
}

func TestProgressLines(t *testing.T) {
	got := progressLines([]scenario.Progress{
		{Name: "task 0", Steps: 1, Of: 2, State: "waits"},
		{Name: "task 1", Steps: 1, Of: 2, State: "waits"},
		{Name: "task 2", Steps: 2, Of: 2, State: "finished"},
		{Name: "write 3", Steps: 2, Of: 2, State: "finished"},
		{Name: "writer", Steps: 2, Of: 2, State: "finished"},
		{Name: "writer", Steps: 2, Of: 2, State: "finished"},
	})
	want := []string{
		"task 0 to 1: 1 of 2, waits", "task 2: 2 of 2, finished", "write 3: 2 of 2, finished",
		"writer: 2 of 2, finished", "writer: 2 of 2, finished",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

package scenario

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A wanted is how a way has to end: who did all, and how it stands with the others.
type wanted struct {
	way     string
	verdict Verdict
	tasks   int
	done    int      // tasks that did all their work
	steps   int      // of all tasks together; -1: depends on who was first
	states  []string // each is part of the state of some task, and one is of each task that is not done
}

// bios and the like are what deadlocked tasks say of themselves.
const (
	bios     = "holds 1 of bios, waits for 1 of bios"
	crowded  = "deadlock: each holds 1 of pages, waits for 1 of pages"
	inMiddle = "failed: with 3 pages in hand: "
)

var wants = map[string]map[Discipline][]wanted{
	"stampede": {
		PoolFirst: {
			{"both in one reservation", Finished, 128, 128, 256, nil},
			{"two gets", Deadlock, 128, 0, 128, []string{bios}},
		},
		AllocatorFirst: {
			{"a mempool of pairs", Finished, 128, 128, 256, nil},
			{"two gets", Deadlock, 128, 0, 128, []string{bios}},
		},
	},
	"raid1": {
		PoolFirst: {
			{"a reservation comes with the request", Finished, 22, 22, 27, nil},
			{"nothing is handed over", Deadlock, 22, 0, 4, raidStates},
		},
		AllocatorFirst: {{"the daemon has a mempool", Deadlock, 22, 0, 4, raidStates}},
	},
	"netack": {
		PoolFirst: {
			{"the marks of 2004: writeout goes deeper", Deadlock, 33, 0, 16, append([]string{
				"holds nothing, waits for 1 of pages above the mark of 4"}, netStates...)},
			{"receiving goes deeper", Finished, 33, 33, 96, nil},
		},
		AllocatorFirst: {
			{"one mempool", Deadlock, 33, 0, 16, netStates},
			{"a mempool for each direction", Finished, 33, 33, 96, nil},
		},
	},
	"abc": {
		PoolFirst: {
			{"C is critical", Finished, 4, 4, 7, nil},
			{"C is critical, and waits", Finished, 4, 4, 7, nil},
			{"C has a reservation", Finished, 4, 4, 7, nil},
			{"all are alike", Deadlock, 4, 0, 3, abcStates},
		},
		AllocatorFirst: {{"all are alike", Deadlock, 4, 0, 3, abcStates}},
	},
	"noalloc": {
		PoolFirst: {{"each has its reservation", Finished, 5, 4, 1000, []string{"refused at reservation: "}}},
		AllocatorFirst: {
			{"one page each, waiting", Finished, 32, 32, 8000, nil},
			{"four pages each, not waiting", Broken, 5, 1, 16, []string{inMiddle}},
		},
	},
	"outpaced": {
		PoolFirst:      {{"a reservation, and the forecast", Finished, 2, 2, 4, nil}},
		AllocatorFirst: {{"the reserve is everybody's", Broken, 2, 1, 3, []string{"failed: in the declared reserve: "}}},
	},
	"stack": {
		PoolFirst: {
			{"a pool for each layer", Finished, 16, 10, 80, []string{"source cannot fill the pool"}},
			{"one pool, all reserved at the top", Finished, 16, 8, 64, []string{"more elements than the pool can ever have"}},
			{"one pool, a get in each layer", Deadlock, 16, 1, 8, []string{crowded}},
		},
		AllocatorFirst: {
			{"a mempool for each layer", Finished, 16, 10, 80, []string{"source cannot fill the pool"}},
			{"one mempool, a get in each layer", Deadlock, 16, 1, 8, []string{crowded}},
		},
	},
	"aperture": {
		PoolFirst:      {{"all is allocated beforehand", Finished, 9, 9, 1856, nil}},
		AllocatorFirst: {{"all is in the reserve", Broken, 9, 9, 1856, nil}},
	},
}

var (
	raidStates = []string{
		"holds 1 of pages, waits for the writeout", "holds 1 of pages, waits for 1 of pages",
		"holds nothing, waits for 1 of pages", "holds nothing, waits for the writeout",
	}
	netStates = []string{"holds 1 of pages, waits for the acknowledgement", "holds nothing, waits for 1 of pages"}
	abcStates = []string{
		"holds 4 of elements, waits for 1 of mutex b", "holds 1 of mutex b, waits for 1 of mutex c",
		"holds 1 of mutex c, waits for 1 of elements", "holds nothing, waits for 1 of elements",
	}
)

// Each scenario, under each discipline, ends as it has to: on the real clock, and in a bubble, where
// a deadlock is shown only if all goroutines are durably blocked, and none may be left behind.
func TestScenarios(t *testing.T) {
	var names []string
	for _, s := range All() {
		names = append(names, s.Name)
		for _, d := range Disciplines() {
			t.Run(s.Name+"/"+string(d), func(t *testing.T) {
				before := runtime.NumGoroutine()
				check(t, s.Run(t.Context(), d, Options{}), wants[s.Name][d])
				noneLeft(t, before)
			})
			t.Run(s.Name+"/"+string(d)+"/bubble", func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					check(t, s.Run(t.Context(), d, Options{Patience: 6 * time.Second, Limit: 5 * time.Minute}), wants[s.Name][d])
				})
			})
		}
	}
	if want := []string{"stampede", "raid1", "netack", "abc", "noalloc", "outpaced", "stack", "aperture"}; !slices.Equal(names, want) {
		t.Errorf("the scenarios are %v", names)
	}
}

func check(t *testing.T, got []Result, want []wanted) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d ways, want %d", len(got), len(want))
	}
	for i, w := range want {
		r := got[i]
		steps := 0
		for _, p := range r.Tasks {
			steps += p.Steps
		}
		if r.Way != w.way || r.Expected != w.verdict || r.Got != w.verdict || !r.OK || len(r.Tasks) != w.tasks || r.Finished() != w.done || steps != w.steps {
			t.Errorf("%q: expected %s, got %s (%s), %t; of %d tasks %d are done, with %d steps; want %+v", r.Way, r.Expected, r.Got, r.Error, r.OK, len(r.Tasks), r.Finished(), steps, w)
		}
		if (r.Error != "") != (w.verdict == Broken) || r.Asked == "" || r.Shows == "" {
			t.Errorf("%q: error %q, asked %q, shows %q", r.Way, r.Error, r.Asked, r.Shows)
		}
		checkStates(t, r, w.states)
	}
}

// checkStates checks that those who are not done say why, each in one of these ways, and each way is taken.
func checkStates(t *testing.T, r Result, states []string) {
	t.Helper()
	taken := map[string]bool{}
	for _, p := range r.Tasks {
		if p.Done() && r.Got != Broken {
			if p.State != "finished" {
				t.Errorf("%q: %s did all its work and is %q", r.Way, p.Name, p.State)
			}
			continue
		}
		i := slices.IndexFunc(states, func(s string) bool { return strings.Contains(p.State, s) })
		if i >= 0 {
			taken[states[i]] = true
		} else if !p.Done() {
			t.Errorf("%q: %s: %q", r.Way, p.Name, p.State)
		}
	}
	for _, s := range states {
		if !taken[s] {
			t.Errorf("%q: nobody's state is %q: %v", r.Way, s, r.Tasks)
		}
	}
}

// noneLeft checks that there are not more goroutines than before. It allows for those on their way out.
func noneLeft(t *testing.T, before int) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<16)
			t.Fatalf("%d goroutines, were %d:\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
		}
	}
}

func TestFigures(t *testing.T) {
	for _, c := range []struct {
		scenario   string
		discipline Discipline
		way        int
		want       string
	}{
		{"aperture", PoolFirst, 0, "told beforehand: 256 pages, 1048576 bytes"},
		{"aperture", PoolFirst, 0, "a page more than 1048576 bytes allow was refused at set-up, after 0 calls of the source"},
		{"aperture", PoolFirst, 0, "the source was asked 0 times after that"},
		{"aperture", AllocatorFirst, 0, "the source was asked 25889 times after that"},
		{"netack", PoolFirst, 1, "acknowledgements dropped and sent again: 0"},
	} {
		synctest.Test(t, func(t *testing.T) {
			s, err := Find(c.scenario)
			if err != nil {
				t.Fatal(err)
			}
			r := s[0].Run(t.Context(), c.discipline, Options{})[c.way]
			if !strings.Contains(strings.Join(r.Figures, "\n"), c.want) {
				t.Errorf("%s: %q, want %q", c.scenario, r.Figures, c.want)
			}
		})
	}
}

// The burst is warned while there is enough left to do something about it.
func TestOutpacedWarnsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := outpaced().Run(t.Context(), PoolFirst, Options{})[0]
		var warned, left, failed int
		_, err := fmt.Sscanf(strings.Join(r.Figures, ""), "warned after %d pages, with %d left; first failure after %d pages", &warned, &left, &failed)
		if err != nil || left < paceStart/4 || failed < warned+left {
			t.Errorf("%v: %q", err, r.Figures)
		}
	})
}

func TestFind(t *testing.T) {
	found, err := Find("raid1", "abc")
	if err != nil || len(found) != 2 || found[0].Name != "raid1" || found[1].Name != "abc" {
		t.Errorf("%v, %v", found, err)
	}
	if all, err := Find(); err != nil || len(all) != 8 {
		t.Errorf("%v, %v", all, err)
	}
	_, err = Find("raid1", "raid2")
	if !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), `"raid2"`) {
		t.Errorf("%v", err)
	}
	for _, s := range All() {
		if !strings.Contains(err.Error(), s.Name) {
			t.Errorf("%v does not name %s", err, s.Name)
		}
	}
	if d, err := FindDiscipline("allocator-first"); err != nil || d != AllocatorFirst {
		t.Errorf("%v, %v", d, err)
	}
	if _, err := FindDiscipline("mempool"); !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), "pool-first or allocator-first") {
		t.Errorf("%v", err)
	}
}

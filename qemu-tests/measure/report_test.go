package measure

import (
	"encoding/json"
	"errors"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestFigures: percentiles of known times.
func TestFigures(t *testing.T) {
	h := newTimes(3)
	for ns := int64(1); ns <= 100_000; ns++ {
		h.add(ns)
	}
	near := func(what string, got, want float64) {
		if math.Abs(got-want) > want/500 {
			t.Errorf("%s is %g, want %g", what, got, want)
		}
	}
	for _, each := range []int{1, 50} {
		f, n := h.figures(each), float64(each)
		near("p50", f.p50*n, 50_000)
		near("p99", f.p99*n, 99_000)
		near("p99.9", f.p999*n, 99_900)
		near("p99.99", f.p9999*n, 99_990)
		near("max", f.max*n, 100_000)
		if f.n != 100_000 {
			t.Errorf("%d times", f.n)
		}
	}
	edge := newTimes(2)
	edge.add(-5) // the clock's cost taken off may leave that
	edge.add(1 << 62)
	if f := edge.figures(1); f.n != 2 || f.max < 0.99*float64(longest) || f.p50 != 0 {
		t.Errorf("%+v", f)
	}
	h.merge(edge)
	if f := h.figures(1); f.n != 100_002 {
		t.Errorf("%d times after a merge", f.n)
	}
}

// row is a row of a report with what comparing looks at.
func row(way, policy, name string, threads int, n Neighbour, p50 float64) Row {
	return Row{Way: way, Policy: policy, Name: name, Threads: threads, Neighbour: n, P50: p50}
}

// TestJoin: each row has the likest row of the peer, and the ratio of the medians.
func TestJoin(t *testing.T) {
	const pair = "map+unmap 4K"
	a := Report{Clocks: []Clock{{Cost: 1}}, Rows: []Row{
		row(OwnTables, "strict", pair, 1, Idle, 50),
		row(OwnTables, "batched", pair, 1, Idle, 10),
		row(OwnTables, "ring", pair, 1, Idle, 20),
		row(OwnTables, "batched", pair, 1, Everything, 30),
		row(OwnTables, "batched", pair, 2, Idle, 40),
		row(OwnTables, "batched", pair, 64, Idle, 60),
		row(OwnTables, "batched", "map 4K", 1, Idle, 70),
		row(LoopName, "", pair, 1, Idle, 5),
	}}
	b := Report{Clocks: []Clock{{Cost: 2}}, Held: []Held{{What: "x"}}, Rows: []Row{
		row("peer", "strict", pair, 1, Idle, 100),
		row("peer", "batched", pair, 1, Idle, 200),
		row("peer", "batched", pair, 1, Everything, 300),
		row("peer", "batched", pair, 2, Idle, 400),
		row("peer", "batched", "map 4K", 1, Idle, 0),
	}}
	r, err := Join("a rung", "a machine", "peer", a, b)
	if err != nil {
		t.Fatal(err)
	}
	type verdict struct {
		Peer  string
		Ratio float64
	}
	var got []verdict
	for _, row := range r.Rows {
		got = append(got, verdict{row.Peer, row.Ratio})
	}
	want := []verdict{
		{"peer, strict", 0.5},
		{"peer, batched", 0.05},
		{"peer, batched", 0.1},
		{"peer, batched, beside gc+storm", 0.1},
		{"peer, batched, 2 goroutines", 0.1},
		{"peer, batched", 0.3}, // nobody measured the peer by 64
		{"peer, batched", 0},   // no median of the peer, no ratio
		{"empty loop", 1},
		{"peer, strict", 1},
		{"peer, batched", 1},
		{"peer, batched, beside gc+storm", 1},
		{"peer, batched, 2 goroutines", 1},
		{"peer, batched", 0},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if r.Rung != "a rung" || r.Machine != "a machine" || len(r.Clocks) != 2 || len(r.Held) != 1 {
		t.Errorf("%+v", r)
	}
	if _, err := Join("", "", "nobody", a); !errors.Is(err, ErrPeer) {
		t.Errorf("without a peer: %v", err)
	}
}

// TestTargets: each target with its figure, met and missed.
func TestTargets(t *testing.T) {
	const pair = "map+unmap 4K"
	crowd := func(way string, threads int, perSecond float64) Row {
		r := row(way, "batched", pair, threads, Idle, 100)
		r.PerSecond = perSecond
		if way == LoopName {
			r.Policy = ""
		}
		return r
	}
	tail := row(OwnTables, "batched", "map 4K", 1, Everything, 10)
	tail.P9999 = 101
	loop := row(LoopName, "", "map 4K", 1, Everything, 20)
	loop.P9999 = 25
	r, err := Join("vm", "", VFIO, Report{Rows: []Row{
		crowd(OwnTables, 1, 1000), crowd(OwnTables, 2, 1800), crowd(OwnTables, 64, 1600),
		row(Premapped, "premapped", pair, 1, Idle, 51), tail, loop,
		row(VFIO, "ioctl", pair, 1, Idle, 10_000), row(VFIO, "ioctl", "map 4K", 1, Idle, 1),
		crowd(LoopName, 1, 10), crowd(LoopName, 2, 15), crowd(LoopName, 64, 15),
	}})
	if err != nil {
		t.Fatal(err)
	}
	type verdict struct {
		Want string
		Got  float64
		Met  bool
		Note string
	}
	var got []verdict
	for _, x := range r.Targets {
		got = append(got, verdict{x.Want, math.Round(x.Got*1e6) / 1e6, x.Met, x.Note})
	}
	want := []verdict{
		{"<= 0.01", 0.01, true, ""},
		{"<= 0.005", 0.0051, false, ""},
		{"<= 10", 10.1, false, "p99.99 of Map 101 ns; of an empty loop of 20 ns, 25 ns"},
		{"<= 10", 9.6, true, ""},
		{">= 1.8", 1.8, true, "an empty loop: 1.50"},
		{">= 0.9", 0.888889, false, "an empty loop: 1.00"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	none, err := Join("", "", VFIO, Report{})
	if err != nil || len(none.Targets) != 0 {
		t.Errorf("targets without rows: %+v, %v", none.Targets, err)
	}
	text, err := json.Marshal(none)
	if err != nil || string(text) != `{"rung":"","machine":"","rows":[],"clocks":null,"held":[],"targets":[]}` {
		t.Errorf("%s, %v", text, err)
	}
}

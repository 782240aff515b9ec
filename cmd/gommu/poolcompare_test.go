//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"image/png"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"gommu/respool/compare"
)

// The JSON has all that the table has, and says the same as the run.
func TestCompareJSON(t *testing.T) {
	trace, err := compare.NewTrace(compare.TraceOptions{Name: "pressure", Seed: 5, Tasks: 2, Length: 40 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	opts := compare.Options{Ready: 4, Patience: 20 * time.Millisecond}
	results, err := compare.Run(t.Context(), trace, opts)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := (&comparison{trace, opts, 30, results}).json(&out); err != nil {
		t.Fatal(err)
	}
	var got comparisonJSON
	dec := json.NewDecoder(&out)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&got); err != nil {
		t.Fatal(err)
	}
	if got.Trace.Name != "pressure" || got.Trace.Seed != 5 || got.Trace.Gets != trace.Gets || got.Trace.MaySleep != trace.Waits ||
		got.Trace.Events != trace.Events || got.Trace.Peak != trace.Peak || got.Trace.Tasks != 2 || got.Trace.Length != trace.Length {
		t.Errorf("trace: %+v", got.Trace)
	}
	if a := got.Allocator; a.Try != costJSON(trace.Allocator.Try) || a.Alloc != costJSON(trace.Allocator.Alloc) ||
		a.Free != costJSON(trace.Allocator.Free) || a.Reclaim != costJSON(trace.Allocator.Reclaim) || len(a.Pressure) != 2 {
		t.Errorf("allocator: %+v", a)
	}
	if got.Ready != 4 || got.Patience != opts.Patience || got.Clock != 30 {
		t.Errorf("options: %+v", got)
	}
	for i, d := range got.Disciplines {
		r := &results[i]
		if d.Name != r.Name || d.Failed.NoSleep != r.Failed(false) || d.Failed.MaySleep != r.Failed(true) || len(d.FailedAt) != len(r.Failures) ||
			d.Callers != r.Callers || d.Background != r.Others || d.Beforehand != r.Beforehand || d.Latency["get"] != r.Get ||
			d.Latency["get_may_sleep"] != r.GetWait || d.Latency["put"] != r.Put || d.Held.Peak != r.Peak || d.Held.End != r.End ||
			d.Held.Mean != r.Mean || len(d.Held.Samples) != len(r.Samples) || d.Elapsed != r.Elapsed || d.Late != r.Behind {
			t.Errorf("%s is not as it was measured", r.Name)
		}
		if last := d.Held.Samples[len(d.Held.Samples)-1]; last[1] != int64(r.Samples[len(r.Samples)-1].Elements) {
			t.Errorf("%s: the last sample is %v", r.Name, last)
		}
	}
	if len(got.Disciplines) != 4 {
		t.Errorf("%d disciplines, want 4", len(got.Disciplines))
	}
}

// made is a comparison whose figures are known.
func made() (*compare.Trace, []compare.Result) {
	trace := &compare.Trace{Name: "pressure", Length: 100 * time.Millisecond, Tasks: make([][]compare.Event, 1), Peak: 10}
	trace.Tasks[0] = []compare.Event{{Call: compare.Get}, {At: time.Millisecond, Call: compare.Put}}
	trace.Allocator.Pressure = []compare.Span{{From: 20 * time.Millisecond, To: 50 * time.Millisecond}}
	var results []compare.Result
	for i, name := range []string{"pool-first", "allocator-first", "per-CPU", "static"} {
		results = append(results, compare.Result{
			Name: name, Peak: 20 + i,
			Samples:  []compare.Sample{{At: 0, Elements: 5 + i}, {At: 50 * time.Millisecond, Elements: 20 + i}},
			Failures: []compare.Failure{{At: time.Duration(30+i) * time.Millisecond}},
			Elapsed:  110 * time.Millisecond,
			Behind:   time.Millisecond,
		})
	}
	return trace, results
}

// A plot has a line for each discipline, is a picture, and is not drawn outside its axes.
func TestPlot(t *testing.T) {
	trace, results := made()
	svg := filepath.Join(t.TempDir(), "a.svg")
	if err := plotComparison(svg, trace, results); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(svg)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"memory held (elements)", "failed gets so far", "time since the start of the trace (ms)",
		"pool-first: at most 20 held", "allocator-first: at most 21 held", "per-CPU: at most 22 held", "static: at most 23 held",
		"pressure: the allocator refuses", "what the trace wants out", "failed gets: 1",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the plot does not say %q", want)
		}
	}
	for _, colour := range []string{"#0072B2", "#D55E00", "#009E73", "#CC79A7"} {
		if n := strings.Count(string(text), colour); n < 3 { // two panels and the legend
			t.Errorf("%d lines in %s, want 3", n, colour)
		}
	}
	file := filepath.Join(t.TempDir(), "a.png")
	if err := plotComparison(file, trace, results); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if img, err := png.Decode(f); err != nil || img.Bounds().Dx() < 800 || img.Bounds().Dy() < 500 {
		t.Errorf("a picture of %v, %v", img.Bounds(), err)
	}
}

// Where the machine held up the calls, the report says so.
func TestCompareBusy(t *testing.T) {
	trace, results := made()
	for late, want := range map[time.Duration]bool{time.Millisecond: false, time.Second: true} {
		results[3].Behind, results[3].Failures = late, nil
		var out bytes.Buffer
		if err := (&comparison{trace, compare.Options{}, 30, results}).text(&out); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(out.String(), "The machine was busy"); got != want {
			t.Errorf("%v late: said %t, want %t", late, got, want)
		}
	}
}

// Axes have two to eleven whole marks.
func TestWholeTicks(t *testing.T) {
	for _, to := range []float64{1, 1.05, 3, 10, 11, 19, 99, 262.5, 1000, 1088.3, 25_000, 3e6} {
		ticks := wholeTicks{}.Ticks(0, to)
		if n := len(ticks); n < 2 || n > 11 || ticks[0].Label != "0" || ticks[n-1].Value > to || ticks[n-1].Value < to/2 {
			t.Errorf("to %v: %+v", to, ticks)
		}
		for _, tick := range ticks {
			if v, err := strconv.Atoi(tick.Label); err != nil || float64(v) != tick.Value {
				t.Errorf("to %v: %+v", to, tick)
			}
		}
	}
}

//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"gommu/respool/compare"
)

// A comparison is what `gommu pool compare` prints.
type comparison struct {
	trace   *compare.Trace
	opts    compare.Options
	clock   time.Duration
	results []compare.Result
}

// columns says what the tables have.
const columns = `failed       gets that returned no element. no-sleep: callers who may not sleep, at once. may-sleep: callers who may, when their patience ended
beforehand   calls of the allocator before the trace began
caller's     calls of the allocator that a task made or waited for inside a get or put: try = without reclaim (refused: of these, refused),
             alloc = with reclaim, free
background   calls that a goroutine of the discipline made meanwhile, on nobody's path
held         elements that exist, ready or out, as the allocator counts them: the most, the mean over time, and at the end, when all are put back;
             pool-first frees what was idle for 1 s, but nothing within 10 s of the last that it made
late         the most that a call began later than the trace has it, for slow calls before it or for the scheduler: above some ms a task fell behind
latency      from call to return, failed calls too; reading the clock, %v, is in it. A task that is late makes its calls as fast as it can.
             p99.99 says less than it seems to where there are fewer than 100 000 calls
`

func (c *comparison) print(w io.Writer, asJSON bool) error {
	if asJSON {
		return c.json(w)
	}
	return c.text(w)
}

func (c *comparison) text(w io.Writer) error {
	c.head(w)
	if err := c.table(w); err != nil {
		return err
	}
	fmt.Fprintln(w)
	if err := c.latencies(w); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\n"+columns, c.clock)
	if late := c.machine(); late >= busyMachine && err == nil {
		_, err = fmt.Fprintf(w, "\nThe machine was busy: calls were up to %v late under static, which keeps nobody waiting. Try again at rest.\n", short(late))
	}
	return err
}

// busyMachine is by how much calls are late where the machine has other things to do.
const busyMachine = 20 * time.Millisecond

// machine is how late calls were under static: for that the machine alone is to blame.
func (c *comparison) machine() time.Duration {
	for _, r := range c.results {
		if r.Name == "static" && len(r.Failures) == 0 {
			return r.Behind
		}
	}
	return 0
}

// head prints what was run.
func (c *comparison) head(w io.Writer) {
	t := c.trace
	fmt.Fprintf(w, "trace      %s, seed %d: %v, %d tasks, %d gets (%d of callers who may sleep), at most %d elements out if every get succeeds at once\n",
		t.Name, t.Seed, t.Length, len(t.Tasks), t.Gets, t.Waits, t.Peak)
	fmt.Fprintf(w, "           %s\n", oneLine(compare.About(t.Name)))
	a := &t.Allocator
	fmt.Fprintln(w, "allocator  simulated, the same for all, without a lock and without an end of memory; times are log-normal")
	fmt.Fprintf(w, "           without reclaim  %s\n", cost(a.Try))
	fmt.Fprintf(w, "           with reclaim     %s\n", cost(a.Alloc))
	fmt.Fprintf(w, "           free             %s\n", cost(a.Free))
	for _, p := range a.Pressure {
		fmt.Fprintf(w, "           pressure from %v to %v: refuses without reclaim; with reclaim %s\n", p.From, p.To, cost(a.Reclaim))
	}
	for i, r := range c.results {
		label := "set up"
		if i > 0 {
			label = ""
		}
		fmt.Fprintf(w, "%-10s %s: %s\n", label, r.Name, r.Setup)
	}
	fmt.Fprintf(w, "           who may sleep waits %v at most\n\n", c.opts.Patience)
}

func cost(c compare.Cost) string {
	return fmt.Sprintf("half below %v, 99 %% below %v, at most %v", c.Median, c.P99, c.Max)
}

// table prints failures, calls of the allocator, and memory.
func (c *comparison) table(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\tFAILED\t\tBEFOREHAND\tCALLER'S\t\t\t\tBACKGROUND\t\tHELD\t\t\tLATE\t")
	fmt.Fprintln(t, "\tno-sleep\tmay-sleep\talloc\ttry\trefused\talloc\tfree\talloc\tfree\tmost\tmean\tend\tmost\t")
	for _, r := range c.results {
		fmt.Fprintf(t, "%-15s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%.0f\t%d\t%v\t\n",
			r.Name, r.Failed(false), r.Failed(true), r.Beforehand,
			r.Callers.Try, r.Callers.Refused, r.Callers.Alloc, r.Callers.Free,
			r.Others.Try+r.Others.Alloc, r.Others.Free,
			r.Peak, r.Mean, r.End, short(r.Behind))
	}
	return t.Flush()
}

// latencies prints how long the calls took.
func (c *comparison) latencies(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "LATENCY       \t\tcalls\tp50\tp90\tp99\tp99.9\tp99.99\tmax\t")
	for _, call := range []struct {
		name string
		of   func(*compare.Result) compare.Latency
	}{
		{"get, no-sleep", func(r *compare.Result) compare.Latency { return r.Get }},
		{"get, may-sleep", func(r *compare.Result) compare.Latency { return r.GetWait }},
		{"put", func(r *compare.Result) compare.Latency { return r.Put }},
	} {
		for i := range c.results {
			l := call.of(&c.results[i])
			fmt.Fprintf(t, "%-14s\t%-15s\t%d\t%v\t%v\t%v\t%v\t%v\t%v\t\n", call.name, c.results[i].Name, l.Calls,
				short(l.P50), short(l.P90), short(l.P99), short(l.P999), short(l.P9999), short(l.Max))
		}
	}
	return t.Flush()
}

// short is d with three digits.
func short(d time.Duration) time.Duration {
	unit := time.Duration(1)
	for d/unit >= 1000 {
		unit *= 10
	}
	return d.Round(unit)
}

func oneLine(s string) string {
	out := []byte(s)
	for i, b := range out {
		if b == '\n' {
			out[i] = ' '
		}
	}
	return string(out)
}

// comparisonJSON is a comparison as --json prints it. All times are in nanoseconds.
type comparisonJSON struct {
	Trace struct {
		Name     string        `json:"name"`
		Seed     uint64        `json:"seed"`
		Length   time.Duration `json:"length_ns"`
		Tasks    int           `json:"tasks"`
		Events   int           `json:"events"`
		Gets     int           `json:"gets"`
		MaySleep int           `json:"may_sleep_gets"`
		Peak     int           `json:"peak_demand"` // elements
	} `json:"trace"`
	Allocator struct {
		Try      costJSON   `json:"try"`   // without reclaim
		Alloc    costJSON   `json:"alloc"` // with reclaim
		Free     costJSON   `json:"free"`
		Pressure []spanJSON `json:"pressure"` // when try is refused and alloc takes reclaim
		Reclaim  costJSON   `json:"reclaim"`
	} `json:"allocator"`
	Ready       int              `json:"ready"`
	Patience    time.Duration    `json:"patience_ns"`
	Clock       time.Duration    `json:"clock_ns"` // part of each latency
	Disciplines []disciplineJSON `json:"disciplines"`
}

type costJSON struct {
	Median time.Duration `json:"median_ns"`
	P99    time.Duration `json:"p99_ns"`
	Max    time.Duration `json:"max_ns"`
}

type spanJSON struct {
	From time.Duration `json:"from_ns"`
	To   time.Duration `json:"to_ns"`
}

type disciplineJSON struct {
	Name   string `json:"name"`
	Setup  string `json:"setup"`
	Failed struct {
		NoSleep  int `json:"no_sleep"`
		MaySleep int `json:"may_sleep"`
	} `json:"failed"`
	FailedAt   []time.Duration            `json:"failed_at_ns"`
	Beforehand uint64                     `json:"allocated_beforehand"`
	Callers    compare.Calls              `json:"callers_path"`
	Background compare.Calls              `json:"background"`
	Latency    map[string]compare.Latency `json:"latency"` // get, get_may_sleep, put
	Held       struct {
		Peak    int        `json:"peak"`
		Mean    float64    `json:"mean"`
		End     int        `json:"end"`
		Samples [][2]int64 `json:"samples"` // time in ns, elements
	} `json:"held"`
	Elapsed time.Duration `json:"elapsed_ns"`
	Late    time.Duration `json:"late_ns"`
}

func (c *comparison) json(w io.Writer) error {
	t, a := c.trace, &c.trace.Allocator
	out := comparisonJSON{Ready: c.opts.Ready, Patience: c.opts.Patience, Clock: c.clock}
	out.Trace.Name, out.Trace.Seed, out.Trace.Length, out.Trace.Tasks = t.Name, t.Seed, t.Length, len(t.Tasks)
	out.Trace.Events, out.Trace.Gets, out.Trace.MaySleep, out.Trace.Peak = t.Events, t.Gets, t.Waits, t.Peak
	out.Allocator.Try, out.Allocator.Alloc = costJSON(a.Try), costJSON(a.Alloc)
	out.Allocator.Free, out.Allocator.Reclaim = costJSON(a.Free), costJSON(a.Reclaim)
	out.Allocator.Pressure = []spanJSON{}
	for _, p := range a.Pressure {
		out.Allocator.Pressure = append(out.Allocator.Pressure, spanJSON(p))
	}
	for i := range c.results {
		out.Disciplines = append(out.Disciplines, disciplineOf(&c.results[i]))
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(out)
}

func disciplineOf(r *compare.Result) disciplineJSON {
	d := disciplineJSON{
		Name: r.Name, Setup: r.Setup,
		FailedAt:   []time.Duration{},
		Beforehand: r.Beforehand, Callers: r.Callers, Background: r.Others,
		Latency: map[string]compare.Latency{"get": r.Get, "get_may_sleep": r.GetWait, "put": r.Put},
		Elapsed: r.Elapsed, Late: r.Behind,
	}
	d.Failed.NoSleep, d.Failed.MaySleep = r.Failed(false), r.Failed(true)
	for _, f := range r.Failures {
		d.FailedAt = append(d.FailedAt, f.At)
	}
	d.Held.Peak, d.Held.Mean, d.Held.End = r.Peak, r.Mean, r.End
	for _, s := range r.Samples {
		d.Held.Samples = append(d.Held.Samples, [2]int64{int64(s.At), int64(s.Elements)})
	}
	return d
}

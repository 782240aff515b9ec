//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"gommu/respool/scenario"
)

// scenariosOptions are the flags of `gommu pool scenarios`.
type scenariosOptions struct {
	disciplines []string
	asJSON      bool
}

// A scenariosReport is what `gommu pool scenarios --json` prints.
type scenariosReport struct {
	OK        bool              `json:"ok"` // all ways ended as they say
	Results   []scenario.Result `json:"results"`
	ElapsedMS int64             `json:"elapsed_ms"`
	Error     string            `json:"error,omitempty"`
}

var errScenarios = errors.New("not as the scenarios say")

func newScenarios() *cobra.Command {
	var opts scenariosOptions
	cmd := &cobra.Command{
		Use:   "scenarios [NAME...]",
		Short: "Run what the threads argued over: who makes progress, who deadlocks",
		Long: "Runs eight situations from the threads about memory pools, each under the pool that is asked first (pool-first) and under\n" +
			"Linux's mempool (allocator-first), with real goroutines. Each way to go about a situation says beforehand how it ends:\n" +
			"finished, in a deadlock, or broken. The exit code is 0 only if all end as they say. Without names: all of them.\n\n" +
			scenarioNames(),
		RunE: func(cmd *cobra.Command, names []string) error { return runScenarios(cmd, opts, names) },
	}
	f := cmd.Flags()
	f.StringSliceVar(&opts.disciplines, "discipline", nil, "pool-first or allocator-first (default both)")
	f.BoolVar(&opts.asJSON, "json", false, "print one JSON object")
	return cmd
}

// scenarioNames lists the scenarios for the help text.
func scenarioNames() string {
	b := &strings.Builder{}
	fmt.Fprintln(b, "Scenarios:")
	for _, s := range scenario.All() {
		who, _, _ := strings.Cut(s.Asked, ":")
		fmt.Fprintf(b, "  %-9s  %s\n", s.Name, who)
	}
	return strings.TrimRight(b.String(), "\n")
}

// runScenarios runs and prints them. An error is in the JSON object too.
func runScenarios(cmd *cobra.Command, opts scenariosOptions, names []string) error {
	r := &scenariosReport{Results: []scenario.Result{}}
	started := time.Now()
	err := r.run(cmd, opts, names)
	r.OK = err == nil
	r.ElapsedMS = time.Since(started).Milliseconds()
	if err != nil {
		r.Error = err.Error()
	}
	w := cmd.OutOrStdout()
	if opts.asJSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return errors.Join(enc.Encode(r), err)
	}
	if err == nil {
		_, err = fmt.Fprintf(w, "ok: all %d end as they say, in %d ms\n", len(r.Results), r.ElapsedMS)
	}
	return err
}

// run runs the scenarios and, unless the report is to be JSON, prints each when it is over.
func (r *scenariosReport) run(cmd *cobra.Command, opts scenariosOptions, names []string) error {
	scenarios, err := scenario.Find(names...)
	if err != nil {
		return err
	}
	disciplines := scenario.Disciplines()
	if len(opts.disciplines) > 0 {
		disciplines = nil
		for _, name := range opts.disciplines {
			d, err := scenario.FindDiscipline(name)
			if err != nil {
				return err
			}
			disciplines = append(disciplines, d)
		}
	}
	for _, s := range scenarios {
		var results []scenario.Result
		for _, d := range disciplines {
			results = append(results, s.Run(cmd.Context(), d, scenario.Options{})...)
		}
		r.Results = append(r.Results, results...)
		if !opts.asJSON {
			if err := printScenario(cmd.OutOrStdout(), s, results); err != nil {
				return err
			}
		}
		if err := cmd.Context().Err(); err != nil {
			return err
		}
	}
	return r.verdict()
}

// verdict is an error if something did not end as it says.
func (r *scenariosReport) verdict() error {
	var bad []string
	for _, res := range r.Results {
		if !res.OK {
			text := fmt.Sprintf("%s, %s, %s: %s instead of %s", res.Scenario, res.Discipline, res.Way, res.Got, res.Expected)
			if res.Error != "" {
				text += " (" + res.Error + ")"
			}
			bad = append(bad, text)
		}
	}
	if len(bad) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %d of %d: %s", errScenarios, len(bad), len(r.Results), strings.Join(bad, "; "))
}

// printScenario prints what was asked, a table of the ways, and who made progress in each.
func printScenario(w io.Writer, s scenario.Scenario, results []scenario.Result) error {
	fmt.Fprintf(w, "%s\n%s\n\n", s.Name, s.Asked)
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "  DISCIPLINE\tWAY\tEXPECTED\tGOT\tALL DONE\tTIME")
	for _, r := range results {
		got := string(r.Got)
		if !r.OK {
			got += " (FAILED)"
		}
		fmt.Fprintf(t, "  %s\t%s\t%s\t%s\t%d of %d\t%d ms\n", r.Discipline, r.Way, r.Expected, got, r.Finished(), len(r.Tasks), r.ElapsedMS)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, r := range results {
		fmt.Fprintf(w, "\n  %s, %s: %s\n", r.Discipline, r.Way, r.Shows)
		for _, line := range progressLines(r.Tasks) {
			fmt.Fprintf(w, "    %s\n", line)
		}
		for _, f := range r.Figures {
			fmt.Fprintf(w, "    %s\n", f)
		}
		switch {
		case r.Error != "" && r.OK:
			fmt.Fprintf(w, "    failed, as it had to: %s\n", r.Error)
		case r.Error != "":
			fmt.Fprintf(w, "    error: %s\n", r.Error)
		}
	}
	_, err := fmt.Fprintln(w)
	return err
}

// progressLines says who got how far, in one line for neighbours who got equally far.
func progressLines(tasks []scenario.Progress) []string {
	var lines []string
	for i := 0; i < len(tasks); {
		first := tasks[i]
		n := 1
		for i+n < len(tasks) && alike(first, tasks[i+n]) {
			n++
		}
		name := first.Name
		if n > 1 {
			last := tasks[i+n-1].Name
			name += " to " + last[strings.LastIndexByte(last, ' ')+1:]
		}
		lines = append(lines, fmt.Sprintf("%s: %d of %d, %s", name, first.Steps, first.Of, first.State))
		i += n
	}
	return lines
}

// alike reports whether two tasks differ in nothing but their number.
func alike(a, b scenario.Progress) bool {
	kind := func(name string) string { return strings.TrimRight(name, "0123456789") }
	return kind(a.Name) != a.Name && kind(a.Name) == kind(b.Name) && a.Steps == b.Steps && a.Of == b.Of && a.State == b.State
}

//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"gommu/qemu-tests/conformance"
	"gommu/qemu-tests/provision"
)

// conformanceOptions are the flags of `gommu conformance`.
type conformanceOptions struct {
	on     string
	asJSON bool
	cases  string
	list   bool
}

var (
	errConformance = errors.New("cases failed")
	errNoCase      = errors.New("no case is called like that")
)

func newConformance() *cobra.Command {
	var opts conformanceOptions
	cmd := &cobra.Command{
		Use:   "conformance",
		Short: "Run every case of the suite for VT-d units on every rung and in every mode",
		Long: "Runs the cases of one suite (page sizes, limits, permissions, invalidations, domains, every fault reason, …) on every rung\n" +
			"that is there, in legacy mode and in scalable mode with second-stage and with first-stage tables. Where a rung cannot show a\n" +
			"case it is skipped, and why is said. The exit code is 0 only if no case fails.\n\n" +
			conformanceRungs(),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runConformance(cmd, opts) },
	}
	f := cmd.Flags()
	f.StringVar(&opts.on, "on", "", "rung: "+rungNames()+" (default: every one that is there)")
	f.BoolVar(&opts.asJSON, "json", false, "print a JSON array, an object for each case in each place")
	f.StringVar(&opts.cases, "case", "", "only cases whose names match this regular expression")
	f.BoolVar(&opts.list, "list", false, "list the cases instead of running them")
	return cmd
}

// A conformanceRung is where the suite runs.
type conformanceRung struct {
	name, about string
	// jobs are what can run at once. An error says that the rung is not there.
	jobs func() ([]conformanceJob, error)
}

// A conformanceJob runs cases in one place or several, and reports their results
// in order.
type conformanceJob func(ctx context.Context, cases []conformance.Case, report func(conformance.Result)) error

var allConformanceRungs = []conformanceRung{
	{"model", "a strict unit in this process; needs nothing", func() ([]conformanceJob, error) {
		return placeJobs(conformance.ModelPlaces()), nil
	}},
	{"qtest", "the units of every QEMU that is set up, without a guest", func() ([]conformanceJob, error) {
		qemus, err := provision.FindQEMU(provision.Options{})
		return placeJobs(conformance.QtestPlaces(qemus)), err
	}},
	{"vm", "the same units, owned by this program in a Linux guest, through /dev/mem", func() ([]conformanceJob, error) {
		in, err := provision.Find(provision.Options{})
		return vmJobs(in), err
	}},
}

func placeJobs(places []conformance.Place) []conformanceJob {
	var jobs []conformanceJob
	for _, p := range places {
		jobs = append(jobs, func(ctx context.Context, cases []conformance.Case, report func(conformance.Result)) error {
			return conformance.Run(ctx, p, cases, report)
		})
	}
	return jobs
}

func conformanceRungs() string {
	b := &strings.Builder{}
	fmt.Fprintln(b, "Rungs:")
	for _, r := range allConformanceRungs {
		fmt.Fprintf(b, "  %-6s %s\n", r.name, r.about)
	}
	return strings.TrimRight(b.String(), "\n")
}

func rungNames() string {
	var names []string
	for _, r := range allConformanceRungs {
		names = append(names, r.name)
	}
	return strings.Join(names, " or ")
}

func runConformance(cmd *cobra.Command, opts conformanceOptions) error {
	cases, err := matchingCases(opts.cases)
	if err != nil {
		return err
	}
	if opts.list {
		for _, c := range cases {
			fmt.Fprintf(cmd.OutOrStdout(), "%-40s %s\n", c.Name, c.About)
		}
		return nil
	}
	jobs, err := conformanceJobs(cmd.ErrOrStderr(), opts.on)
	if err != nil {
		return err
	}
	results, err := runJobs(cmd.Context(), jobs, cases)
	if werr := writeConformance(cmd.OutOrStdout(), results, opts.asJSON); werr != nil {
		return werr
	}
	if n := count(results, conformance.Fail); err == nil && n > 0 {
		err = fmt.Errorf("%w: %d of %d", errConformance, n, len(results))
	}
	return err
}

func matchingCases(pattern string) ([]conformance.Case, error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, fmt.Errorf("--case: %w", err)
	}
	cases := slices.DeleteFunc(conformance.Cases(), func(c conformance.Case) bool { return !re.MatchString(c.Name) })
	if len(cases) == 0 {
		return nil, fmt.Errorf("--case %q: %w; gommu conformance --list has all names", pattern, errNoCase)
	}
	return cases, nil
}

// conformanceJobs are those of the rung that is named, or of all that are there;
// notes tells of the others.
func conformanceJobs(notes io.Writer, on string) ([]conformanceJob, error) {
	var jobs []conformanceJob
	for _, r := range allConformanceRungs {
		if on != "" && on != r.name {
			continue
		}
		more, err := r.jobs()
		switch {
		case err != nil && on != "":
			return nil, err
		case err != nil:
			fmt.Fprintf(notes, "rung %s is not there: %v\n", r.name, err)
		default:
			jobs = append(jobs, more...)
		}
	}
	if len(jobs) == 0 {
		return nil, fmt.Errorf("%w: %q; take --on %s", errRung, on, rungNames())
	}
	return jobs, nil
}

// runJobs runs the jobs, as many at once as there are processors, and returns
// what they report in the order of the jobs.
func runJobs(ctx context.Context, jobs []conformanceJob, cases []conformance.Case) ([]conformance.Result, error) {
	results, errs := make([][]conformance.Result, len(jobs)), make([]error, len(jobs))
	next := make(chan int)
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(jobs)) {
		workers.Go(func() {
			for i := range next {
				errs[i] = jobs[i](ctx, cases, func(r conformance.Result) { results[i] = append(results[i], r) })
			}
		})
	}
	for i := range jobs {
		next <- i
	}
	close(next)
	workers.Wait()
	return slices.Concat(results...), errors.Join(errs...)
}

func count(results []conformance.Result, o conformance.Outcome) (n int) {
	for _, r := range results {
		if r.Outcome == o {
			n++
		}
	}
	return n
}

func writeConformance(w io.Writer, results []conformance.Result, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		if results == nil {
			results = []conformance.Result{}
		}
		return enc.Encode(results)
	}
	b := &strings.Builder{}
	for len(results) > 0 {
		n := 1
		for n < len(results) && place(results[n]) == place(results[0]) {
			n++
		}
		writePlace(b, results[:n])
		results = results[n:]
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func place(r conformance.Result) string {
	if r.QEMU == "" {
		return fmt.Sprintf("%s %s", r.Rung, r.Mode)
	}
	return fmt.Sprintf("%s %s, QEMU %s", r.Rung, r.Mode, r.QEMU)
}

// writePlace prints what failed in a place, why what was skipped, and how many
// cases that are.
func writePlace(b *strings.Builder, results []conformance.Result) {
	var ms float64
	var whys []string
	skipped := map[string]int{}
	for _, r := range results {
		ms += r.MS
		if r.Outcome == conformance.Skip {
			if skipped[r.Why] == 0 {
				whys = append(whys, r.Why)
			}
			skipped[r.Why]++
		}
	}
	fmt.Fprintf(b, "%s: %d passed, %d failed, %d skipped, %.1f s\n", place(results[0]),
		count(results, conformance.Pass), count(results, conformance.Fail), count(results, conformance.Skip), ms/1000)
	for _, r := range results {
		if r.Outcome == conformance.Fail {
			fmt.Fprintf(b, "  FAIL  %s: %s\n", r.Case, strings.ReplaceAll(r.Why, "\n", "\n        "))
		}
	}
	for _, why := range whys {
		fmt.Fprintf(b, "  skip  %3d × %s\n", skipped[why], why)
	}
}

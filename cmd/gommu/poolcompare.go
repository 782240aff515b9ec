//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gommu/respool/compare"
)

// compareOptions are the flags of `gommu pool compare`.
type compareOptions struct {
	trace  compare.TraceOptions
	run    compare.Options
	asJSON bool
	plot   string
}

func newCompare() *cobra.Command {
	var opts compareOptions
	var about strings.Builder
	for _, name := range compare.Names() {
		fmt.Fprintf(&about, "  %-9s %s\n", name, strings.ReplaceAll(compare.About(name), "\n", "\n            "))
	}
	cmd := &cobra.Command{
		Use:   "compare",
		Short: "Run one trace through four ways to have elements ready",
		Long: "Runs one and the same trace of gets and puts by several tasks through each discipline: pool-first (gommu's pool),\n" +
			"allocator-first (Linux's mempool), per-CPU stocks that are filled in the background, and static. Behind each is the same\n" +
			"simulated allocator. It prints who failed, who had to call the allocator, how long the calls took and how much memory\n" +
			"was held, and what each column means. The trace comes from the seed; the figures are measured, so other load of\n" +
			"the machine is in them.\n\n" +
			"Traces:\n" + strings.TrimRight(about.String(), "\n"),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runCompare(cmd, opts) },
	}
	f := cmd.Flags()
	f.StringVar(&opts.trace.Name, "trace", "pressure", "which trace: "+strings.Join(compare.Names(), ", "))
	f.Uint64Var(&opts.trace.Seed, "seed", 1, "what the trace and the allocator's times are drawn from")
	f.DurationVar(&opts.trace.Length, "duration", time.Second, "how long the trace is; it is run once for each discipline")
	f.IntVar(&opts.trace.Events, "events", 0, "cut the trace after so many gets and puts (0: do not)")
	f.IntVar(&opts.trace.Tasks, "tasks", 4, "how many tasks there are")
	f.IntVar(&opts.run.Ready, "ready", 64, "elements that each discipline but static keeps ready at rest")
	f.DurationVar(&opts.run.Patience, "patience", 100*time.Millisecond, "how long a caller who may sleep waits before that is a failure")
	f.BoolVar(&opts.asJSON, "json", false, "print one JSON object, times in nanoseconds")
	f.StringVar(&opts.plot, "plot", "", "write memory held and failures over time to this file (.svg or .png)")
	return cmd
}

func runCompare(cmd *cobra.Command, opts compareOptions) error {
	if err := checkCompare(opts); err != nil {
		return err
	}
	trace, err := compare.NewTrace(opts.trace)
	if err != nil {
		return err
	}
	results, err := compare.Run(cmd.Context(), trace, opts.run)
	if err != nil {
		return err
	}
	r := comparison{trace, opts.run, compare.ClockCost(), results}
	if err := r.print(cmd.OutOrStdout(), opts.asJSON); err != nil {
		return err
	}
	if opts.plot == "" {
		return nil
	}
	return plotComparison(opts.plot, trace, results) // last: the figures are not lost where it fails
}

var errFlag = errors.New("bad flag")

// checkCompare refuses what would fail only when all is measured, and what zero must not stand for.
func checkCompare(opts compareOptions) error {
	if opts.run.Ready < 1 {
		return fmt.Errorf("%w: --ready %d: take 1 or more", errFlag, opts.run.Ready)
	}
	if opts.run.Patience <= 0 {
		return fmt.Errorf("%w: --patience %v: take a positive time, such as 100ms", errFlag, opts.run.Patience)
	}
	return checkPlot(opts.plot)
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

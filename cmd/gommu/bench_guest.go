//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"gommu/qemu-tests/measure"
	"gommu/qemu-tests/rung"
	"gommu/qemu-tests/vm/guest"
)

// newBenchGuest is the part of benchVM that runs in a guest.
func newBenchGuest() *cobra.Command {
	var unit string
	var extent measure.Extent
	cmd := &cobra.Command{
		Use:    "bench-guest",
		Short:  "Measure in the guest that this is",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !guest.Inside() {
				return errors.New("only in a guest of gommu bench --on vm: it takes over the machine's unit")
			}
			out := json.NewEncoder(cmd.OutOrStdout())
			extent.Progress = func(done, of int, what string) { _ = out.Encode(benchLine{Done: done, Of: of, What: what}) }
			var r measure.Report
			var err error
			switch unit {
			case "ours":
				r, err = measure.Unit(cmd.Context(), "vm", rung.Options{}, false, extent)
			case "linux":
				r, err = measure.Kernel(cmd.Context(), rung.Options{}, extent)
			default:
				err = fmt.Errorf("%w: --unit %q: take ours or linux", errFlag, unit)
			}
			if err != nil {
				return err
			}
			return out.Encode(benchLine{Report: &r})
		},
	}
	f := cmd.Flags()
	f.StringVar(&unit, "unit", "", "who has the unit: ours or linux")
	f.BoolVar(&extent.Short, "short", false, "less of everything")
	f.DurationVar(&extent.Budget, "budget", 0, "for each figure; 0 is the usual")
	f.IntVar(&extent.Samples, "samples", 0, "of each figure at most; 0 is no limit")
	return cmd
}

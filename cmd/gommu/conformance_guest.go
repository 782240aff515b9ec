//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"gommu/qemu-tests/conformance"
	"gommu/qemu-tests/vm/guest"
)

var errOutside = errors.New("only in a guest of gommu conformance --on vm: it takes over the machine's unit")

// newConformanceGuest is the part of conformanceVM that runs in the guest: it writes a
// line of JSON for each case that has ended.
func newConformanceGuest() *cobra.Command {
	var qemu string
	var modes []string
	cmd := &cobra.Command{
		Use:    "conformance-guest [CASE...]",
		Short:  "Run the conformance suite on the unit of the guest that this is",
		Hidden: true,
		RunE: func(cmd *cobra.Command, names []string) error {
			if !guest.Inside() {
				return errOutside
			}
			return runInGuest(cmd, qemu, modes, names)
		},
	}
	cmd.Flags().StringVar(&qemu, "qemu", "", "version of the QEMU around it")
	cmd.Flags().StringArrayVar(&modes, "mode", nil, "a mode to run in; more may follow")
	return cmd
}

func runInGuest(cmd *cobra.Command, qemu string, modes, names []string) error {
	places, variant, err := conformance.DevmemPlaces(qemu)
	if err != nil {
		return err
	}
	out := json.NewEncoder(cmd.OutOrStdout())
	var writing error
	for _, m := range modes {
		i := slices.IndexFunc(places, func(p conformance.Place) bool { return string(p.Mode) == m })
		if i < 0 {
			return fmt.Errorf("this guest's unit has no mode %q", m)
		}
		cases := slices.DeleteFunc(conformance.CasesFor(conformance.Cases(), variant), func(c conformance.Case) bool {
			return !slices.Contains(names, c.Name)
		})
		err := conformance.Run(cmd.Context(), places[i], cases, func(r conformance.Result) {
			writing = errors.Join(writing, out.Encode(r))
		})
		if err := errors.Join(err, writing); err != nil {
			return err
		}
	}
	return nil
}

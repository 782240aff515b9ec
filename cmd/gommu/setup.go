//go:build linux

package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"gommu/qemu-tests/provision"
)

func newSetup() *cobra.Command {
	var opts provision.Options
	var verify bool
	cmd := &cobra.Command{
		Use:   "setup",
		Short: "Get the test hardware: QEMU and Linux kernels, without root",
		Long: "Get the test hardware: QEMU and Linux kernels for its guests, fetched by the system's package tools into a cache folder\n" +
			"of yours ($GOMMU_CACHE, else gommu in your cache folder). Nothing is installed and no root is needed. What is\n" +
			"there already is not fetched again.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			opts.Progress = provision.Display(cmd.ErrOrStderr())
			installed, err := provision.Setup(cmd.Context(), opts)
			if err != nil {
				return err
			}
			if verify {
				if err := provision.Verify(cmd.Context(), opts); err != nil {
					return err
				}
			}
			printInstalled(cmd.OutOrStdout(), installed)
			return nil
		},
	}
	cmd.Flags().BoolVar(&opts.Force, "force", false, "fetch everything again, for newer packages")
	cmd.Flags().BoolVar(&verify, "verify", false, "compare every file with its recorded hash")
	return cmd
}

func printInstalled(w io.Writer, in provision.Installed) {
	for _, q := range in.QEMUs {
		fmt.Fprintf(w, "QEMU %s: %s\n", q.Version, q.Path)
	}
	for _, k := range in.Kernels {
		fmt.Fprintf(w, "kernel %s: %s\n", k.Release, k.Image)
	}
	for _, n := range in.Notes {
		fmt.Fprintln(w, n)
	}
}

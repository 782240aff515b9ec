//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

func newTables() *cobra.Command {
	var opts exampleOptions
	var svg string
	cmd := &cobra.Command{
		Use:   "tables",
		Short: "Print the page tables of an example, or draw them",
		Long:  "Prints each table and each run of leaves that a unit walks, or draws them as a picture.\n\n" + exampleText,
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withExample(cmd.Context(), opts, func(e *example) error {
				if svg != "" {
					return writeSVG(e, svg)
				}
				fmt.Fprintln(cmd.OutOrStdout(), e)
				return e.table.Dump(cmd.OutOrStdout())
			})
		},
	}
	opts.flags(cmd)
	cmd.Flags().StringVar(&svg, "svg", "", "draw into this file instead")
	return cmd
}

// writeSVG draws the table; a file that is not complete is removed.
func writeSVG(e *example, name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	if err := errors.Join(e.table.WriteSVG(f), f.Close()); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	return nil
}

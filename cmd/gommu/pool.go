//go:build linux

package main

import "github.com/spf13/cobra"

func newPool() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "pool",
		Short: "Compare the resource pool with other ways to have elements ready",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newCompare(), newScenarios())
	return cmd
}

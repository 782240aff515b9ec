//go:build linux

// Command gommu sets up and shows gommu's test hardware and inspects the
// machine's own (setup, doctor, devices and demo), judges units (conformance), measures mapping beside the
// kernel's ways (bench), compares the resource pool with its like (pool), and shows what programs and the
// kernel map (trace).
// It runs on Linux only.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"gommu/qemu-tests/vm/guest"
)

func main() {
	// The demo on the vm rung boots this very program as the guest's init;
	// elsewhere Init just runs it.
	guest.Init(run)
}

// run is the program: it returns the exit code, 0 only when what was asked for
// was done and held.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := newRoot().ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("interrupted: %w", err)
	}
	fmt.Fprintf(os.Stderr, "gommu: %v\n", err)
	return 1
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "gommu",
		Short:         "Own device DMA from Go: test hardware, demonstrations and checks",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(newSetup(), newDoctor(), newDevices(), newDMAR(), newDemo(), newConformance(), newPool(), newBench())
	root.AddCommand(newUnit(), newWalk(), newTables(), newConformanceGuest(), newBenchGuest(), newTrace())
	return root
}

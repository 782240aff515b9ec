//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"gommu/qemu-tests/provision"
)

// demoOptions are the flags of `gommu demo`.
type demoOptions struct {
	on      string
	asJSON  bool
	device  string // vfio: the function to use; empty: the only edu device
	dmaMask uint64 // vfio: the edu device's dma_mask property
	noSetup bool

	beforeTransfer func(n int) error // vfio: fault injection for tests
}

var (
	errRung    = errors.New("no such rung")
	errForVFIO = errors.New("--device and --dma-mask are for --on vfio: the other rungs bring a device of their own")
)

// demoLimit bounds the demonstration itself, not the fetching of what it needs.
const demoLimit = 2 * time.Minute

func newDemo() *cobra.Command {
	var opts demoOptions
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Copy through a device behind an IOMMU, and see what the IOMMU blocks",
		Long: "Maps buffers, lets a PCI device copy random bytes through the IOMMU from one to another, and compares them; lets the\n" +
			"device reach for memory that is not mapped and shows the fault that the unit recorded; and checks that a page cannot be\n" +
			"reached after it was unmapped and invalidated. The exit code is 0 only if all of it held.\n\n" +
			"Rungs:\n" +
			"  model  a strict model of a unit in this process; needs nothing\n" +
			"  qtest  QEMU's VT-d without a guest: this process writes the tables that the unit walks\n" +
			"  vm     VFIO type 1 on a stock Linux kernel in a QEMU guest\n" +
			"  vfio   VFIO type 1 on this machine; needs an edu device (1234:11e8)\n\n" +
			"Without --on: model, or vfio with --device. QEMU and the kernel are set up first if they are missing (see gommu setup).",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runDemo(cmd, opts)
		},
	}
	f := cmd.Flags()
	f.StringVar(&opts.on, "on", "", "rung: model, qtest, vm or vfio (default model)")
	f.BoolVar(&opts.asJSON, "json", false, "print one JSON object")
	f.StringVar(&opts.device, "device", "", "vfio: address of the function, such as 0000:00:03.0")
	f.Uint64Var(&opts.dmaMask, "dma-mask", 0, "vfio: the edu device's dma_mask property (default 28 bits)")
	f.BoolVar(&opts.noSetup, "no-setup", false, "fail if QEMU or the kernel is missing instead of getting it")
	return cmd
}

// runDemo runs the demonstration and prints its report. An error that comes
// from the demonstration is in the report's JSON too.
func runDemo(cmd *cobra.Command, opts demoOptions) error {
	r := &report{}
	err := chooseRung(&opts, r)
	if err == nil {
		r.Rung = opts.on
		err = perform(cmd.Context(), r, func() (rungRun, error) { return makeReady(cmd, opts) })
	}
	r.finish(err)
	if werr := r.write(cmd.OutOrStdout(), opts.asJSON); werr != nil {
		return werr
	}
	return err
}

// chooseRung sets opts.on if the user left it open, and says why in r.
func chooseRung(opts *demoOptions, r *report) error {
	switch opts.on {
	case "":
		opts.on, r.Why = "model", "it needs nothing; --on has the others"
		if opts.device != "" {
			opts.on, r.Why = "vfio", "a device was named"
		}
	case "model", "qtest", "vm", "vfio":
	default:
		return fmt.Errorf("%w: %q; take --on model, qtest, vm or vfio", errRung, opts.on)
	}
	if opts.on != "vfio" && (opts.device != "" || opts.dmaMask != 0) {
		return errForVFIO
	}
	return nil
}

// A rungRun is the demonstration on a rung that has all it needs.
type rungRun func(ctx context.Context, r *report) error

// perform waits until the rung is ready, however long that takes, and runs the
// demonstration within its time limit.
func perform(ctx context.Context, r *report, ready func() (rungRun, error)) error {
	run, err := ready()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, demoLimit)
	defer cancel()
	started := time.Now()
	err = run(ctx, r)
	r.ElapsedMS = time.Since(started).Milliseconds()
	return err
}

// makeReady sees to it that the rung has what it needs.
func makeReady(cmd *cobra.Command, opts demoOptions) (rungRun, error) {
	switch opts.on {
	case "model":
		return demoModel, nil
	case "vfio":
		return func(ctx context.Context, r *report) error { return demoVFIO(ctx, opts, r) }, nil
	}
	in, err := testHardware(cmd, opts, provision.Options{NoKernel: opts.on == "qtest"})
	if err != nil {
		return nil, err
	}
	if opts.on == "qtest" {
		return func(ctx context.Context, r *report) error { return demoQtest(ctx, qtestDemo{qemu: in.QEMUs[0]}, r) }, nil
	}
	return func(ctx context.Context, r *report) error { return demoVM(ctx, in, r) }, nil
}

// testHardware finds what a rung needs, and sets it up first if it is missing.
func testHardware(cmd *cobra.Command, opts demoOptions, what provision.Options) (provision.Installed, error) {
	in, err := provision.Find(what)
	var missing *provision.Error
	if err == nil || opts.noSetup || errors.Is(err, provision.ErrOverride) || !errors.As(err, &missing) {
		return in, err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%v: fetching what is missing into the cache (gommu setup)\n", missing.Err)
	what.Progress = provision.Display(cmd.ErrOrStderr())
	return provision.Setup(cmd.Context(), what)
}

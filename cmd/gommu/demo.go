package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gommu/pci"
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

var errRung = errors.New("no such rung")

func newDemo() *cobra.Command {
	var opts demoOptions
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Copy through a device behind an IOMMU, and see what the IOMMU blocks",
		Long: "Maps buffers, lets a PCI device copy random bytes through the IOMMU from one to another, and compares them; lets the\n" +
			"device reach for memory that is not mapped and shows the fault that the unit recorded; and checks that a page cannot be\n" +
			"reached after it was unmapped and invalidated. The exit code is 0 only if all of it held.\n\n" +
			"Rungs:\n" +
			"  qtest  QEMU's VT-d without a guest: this process writes the tables that the unit walks\n" +
			"  vm     VFIO type 1 on a stock Linux kernel in a QEMU guest\n" +
			"  vfio   VFIO type 1 on this machine; needs an edu device (1234:11e8)\n\n" +
			"Without --on: vfio where this machine has such a device behind an IOMMU, else vm where QEMU and a kernel are set up, else\n" +
			"qtest. QEMU and the kernel are set up first if they are missing (see gommu setup).",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runDemo(cmd, opts)
		},
	}
	f := cmd.Flags()
	f.StringVar(&opts.on, "on", "", "rung: qtest, vm or vfio")
	f.BoolVar(&opts.asJSON, "json", false, "print one JSON object")
	f.StringVar(&opts.device, "device", "", "vfio: address of the function, such as 0000:00:03.0")
	f.Uint64Var(&opts.dmaMask, "dma-mask", 0, "vfio: the edu device's dma_mask property (default 28 bits)")
	f.BoolVar(&opts.noSetup, "no-setup", false, "fail if QEMU or the kernel is missing instead of getting it")
	return cmd
}

// runDemo runs the demonstration and prints its report. An error that comes
// from the demonstration is printed in the report too.
func runDemo(cmd *cobra.Command, opts demoOptions) error {
	started := time.Now()
	r := &report{}
	err := chooseRung(&opts, r)
	if err == nil {
		r.Rung = opts.on
		err = onRung(cmd, opts, r)
	}
	r.finish(started, err)
	if werr := r.write(cmd.OutOrStdout(), opts.asJSON); werr != nil {
		return werr
	}
	return err
}

// chooseRung sets opts.on if the user left it open, and says why in r.
func chooseRung(opts *demoOptions, r *report) error {
	switch opts.on {
	case "qtest", "vm", "vfio":
		return nil
	case "":
	default:
		return fmt.Errorf("%w: %q; take --on qtest, vm or vfio", errRung, opts.on)
	}
	if opts.device != "" {
		opts.on, r.Why = "vfio", "a device was named"
		return nil
	}
	if edus, err := findEdu(pci.Sysfs{}); err == nil && len(edus) > 0 && edus[0].Group >= 0 {
		opts.on, r.Why = "vfio", fmt.Sprintf("this machine has an edu device behind an IOMMU, %s", edus[0].Address)
		return nil
	}
	why := []string{"this machine has no edu device behind an IOMMU"}
	if _, err := provision.Find(provision.Options{}); err == nil {
		opts.on = "vm"
		why = append(why, "QEMU and a kernel are set up")
	} else {
		opts.on = "qtest"
		why = append(why, "no guest kernel is set up (gommu setup gets it, for vm)")
	}
	r.Why = strings.Join(why, "; ")
	return nil
}

func onRung(cmd *cobra.Command, opts demoOptions, r *report) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Minute)
	defer cancel()
	switch opts.on {
	case "vfio":
		return demoVFIO(ctx, opts, r)
	case "vm":
		in, err := testHardware(cmd, opts, provision.Options{})
		if err != nil {
			return err
		}
		return demoVM(ctx, in, r)
	default:
		in, err := testHardware(cmd, opts, provision.Options{NoKernel: true})
		if err != nil {
			return err
		}
		return demoQtest(ctx, qtestDemo{qemu: in.QEMUs[0]}, r)
	}
}

// testHardware finds what a rung needs, and sets it up first if it is missing.
func testHardware(cmd *cobra.Command, opts demoOptions, what provision.Options) (provision.Installed, error) {
	in, err := provision.Find(what)
	if err == nil || opts.noSetup || errors.Is(err, provision.ErrOverride) {
		return in, err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%v\nGetting it now.\n", err)
	what.Progress = provision.Display(cmd.ErrOrStderr())
	return provision.Setup(cmd.Context(), what)
}

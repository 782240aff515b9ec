//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"gommu/qemu-tests/measure"
	"gommu/qemu-tests/provision"
	"gommu/qemu-tests/rung"
)

// benchOptions are the flags of `gommu bench`.
type benchOptions struct {
	on      string
	asJSON  bool
	plot    string
	device  string // vfio: the edu device to use; empty: the only one
	noSetup bool
	extent  measure.Extent
}

func newBench() *cobra.Command {
	var opts benchOptions
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure mapping and unmapping memory for a device, beside the kernel's ways",
		Long: "Measures what it takes to map memory for a device and to unmap it again, under each flush policy: 4 KiB, 64 KiB, 2 MiB and a list\n" +
			"of 16 pieces, one after the other, beside garbage collections and while another goroutine drains the same pools, and by 1, 2 and 64\n" +
			"goroutines. Each figure is compared with a peer of the same run. A table, --plot and --json show the same.\n\n" +
			"Rungs:\n" +
			"  model  a strict model of a unit in this process; needs nothing. Peer: a list and a table under one mutex\n" +
			"  qtest  QEMU's VT-d without a guest; each register access is a message to QEMU. Same peer\n" +
			"  vm     a guest in turn with the unit ours and with the unit Linux's. Peer: the ioctls of VFIO type 1\n" +
			"  vfio   VFIO type 1 on this machine; needs an edu device (1234:11e8). Same peer\n\n" +
			"QEMU and the kernel are set up first if they are missing (see gommu setup).",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runBench(cmd, opts) },
	}
	f := cmd.Flags()
	f.StringVar(&opts.on, "on", "model", "rung: model, qtest, vm or vfio")
	f.BoolVar(&opts.asJSON, "json", false, "print one JSON object, times in nanoseconds")
	f.BoolVar(&opts.extent.Short, "short", false, "less of everything: within 40 s")
	f.StringVar(&opts.plot, "plot", "", "write the percentiles to this file (.svg or .png)")
	f.StringVar(&opts.device, "device", "", "vfio: address of the function, such as 0000:00:03.0")
	f.BoolVar(&opts.noSetup, "no-setup", false, "fail if QEMU or the kernel is missing instead of getting it")
	return cmd
}

// runBench measures and prints.
func runBench(cmd *cobra.Command, opts benchOptions) error {
	if err := checkBench(opts); err != nil {
		return err
	}
	r, err := measureOn(cmd, opts)
	if err != nil {
		return err
	}
	if err := writeBench(cmd.OutOrStdout(), &r, opts.asJSON); err != nil || opts.plot == "" {
		return err
	}
	return plotBench(opts.plot, &r) // last: the figures are not lost where it fails
}

// checkBench refuses what would fail only when all is measured.
func checkBench(opts benchOptions) error {
	switch opts.on {
	case "model", "qtest", "vm":
		if opts.device != "" {
			return errors.New("--device is for --on vfio: the other rungs bring a device of their own")
		}
	case "vfio":
	default:
		return fmt.Errorf("%w: %q; take --on model, qtest, vm or vfio", errRung, opts.on)
	}
	return checkPlot(opts.plot)
}

// measureOn measures on the rung that is asked for.
func measureOn(cmd *cobra.Command, opts benchOptions) (measure.Report, error) {
	show := newBenchSteps(cmd.ErrOrStderr())
	defer show.end()
	switch opts.on {
	case "vm":
		in, err := testHardware(cmd, demoOptions{noSetup: opts.noSetup}, provision.Options{})
		if err != nil {
			return measure.Report{}, err
		}
		return benchVM(cmd.Context(), benchGuests{in: in, program: thisProgram, extent: opts.extent}, show)
	case "vfio":
		return benchVFIO(cmd.Context(), opts, show)
	case "qtest":
		in, err := testHardware(cmd, demoOptions{noSetup: opts.noSetup}, provision.Options{NoKernel: true})
		if err != nil {
			return measure.Report{}, err
		}
		return benchUnit(cmd.Context(), opts, rung.Options{QEMU: in.QEMUs[0]}, show)
	default:
		return benchUnit(cmd.Context(), opts, rung.Options{Variant: rung.Variant{Coherent: true}}, show)
	}
}

// benchUnit measures own tables in this process, and what else uses the same unit.
func benchUnit(ctx context.Context, opts benchOptions, o rung.Options, show *benchSteps) (measure.Report, error) {
	opts.extent.Progress = show.of(opts.on)
	r, err := measure.Unit(ctx, opts.on, o, true, opts.extent)
	if err != nil {
		return r, err
	}
	where := thisMachine()
	if opts.on == "qtest" {
		where += "; unit of QEMU " + o.QEMU.Version + ", no guest"
	}
	return measure.Join(opts.on, where, measure.MutexList, r)
}

// benchVFIO measures what goes through this machine's kernel.
func benchVFIO(ctx context.Context, opts benchOptions, show *benchSteps) (measure.Report, error) {
	opts.extent.Progress = show.of(opts.on)
	r, err := measure.Kernel(ctx, rung.Options{Address: opts.device}, opts.extent)
	if err != nil {
		return r, err
	}
	return measure.Join(opts.on, thisMachine(), measure.VFIO, r)
}

// thisMachine says what this process runs on.
func thisMachine() string {
	model := runtime.GOARCH
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	kernel := "Linux"
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		kernel += " " + unix.ByteSliceToString(u.Release[:])
	}
	return fmt.Sprintf("%s, %d processors, %s, %s", model, runtime.NumCPU(), kernel, runtime.Version())
}

func writeBench(w io.Writer, r *measure.Report, asJSON bool) error {
	if !asJSON {
		return benchText(w, r)
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

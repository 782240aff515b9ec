//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"gommu/qemu-tests/conformance"
	"gommu/qemu-tests/provision"
	"gommu/qemu-tests/rung"
	"gommu/qemu-tests/vm"
)

// vmModes are the modes that one unit of QEMU's has together: it walks tables of one stage in
// scalable mode, and legacy mode's beside them.
var vmModes = [][]conformance.Mode{
	{conformance.Legacy, conformance.ScalableSecond},
	{conformance.ScalableFirst},
}

// vmJobs run cases in guests whose kernel leaves the unit alone: this very program
// owns it there, through /dev/mem. What a guest does not come to has failed.
func vmJobs(in provision.Installed) []conformanceJob {
	return vmSuite{in: in, program: func(args ...string) (vm.Machine, error) {
		self, err := os.Executable()
		return vm.Machine{Init: self, Args: args}, err
	}}.jobs()
}

// vmSuite is the suite in guests.
type vmSuite struct {
	in      provision.Installed
	program func(args ...string) (vm.Machine, error) // the command with arguments
}

// jobs are one for each QEMU and each of vmModes.
func (s vmSuite) jobs() []conformanceJob {
	var jobs []conformanceJob
	for _, q := range s.in.QEMUs {
		for _, modes := range vmModes {
			jobs = append(jobs, func(ctx context.Context, cases []conformance.Case, report func(conformance.Result)) error {
				return s.run(ctx, q, modes, cases, report)
			})
		}
	}
	return jobs
}

// run boots a guest for each variant that the cases want. Results are reported when all
// are there, by mode and then in the order of the cases.
func (s vmSuite) run(ctx context.Context, q provision.QEMU, modes []conformance.Mode, cases []conformance.Case, report func(conformance.Result)) error {
	var all []conformance.Result
	defer func() {
		for _, m := range modes {
			for _, c := range cases {
				for _, r := range all {
					if r.Mode == m && r.Case == c.Name {
						report(r)
					}
				}
			}
		}
	}()
	for _, v := range conformance.Variants(cases) {
		b := vmBoot{suite: s, qemu: q, variant: v, modes: modes, cases: conformance.CasesFor(cases, v)}
		b.report = func(r conformance.Result) { all = append(all, r) }
		if err := b.run(ctx); err != nil {
			return err
		}
	}
	return nil
}

// vmBoot is one guest, for the cases of one unit.
type vmBoot struct {
	suite   vmSuite
	qemu    provision.QEMU
	variant conformance.Variant
	modes   []conformance.Mode
	cases   []conformance.Case
	report  func(conformance.Result)

	done map[string]bool // by mode and name
	line []byte          // not yet complete
}

func (b *vmBoot) run(ctx context.Context) error {
	properties, err := rung.QEMUUnit(b.qemu.Version, b.modes[len(b.modes)-1], b.variant)
	if err != nil {
		return b.rest(ctx, err)
	}
	if len(conformance.CasesFor(b.cases, b.variant, b.modes...)) == 0 {
		return b.rest(ctx, nil) // none is for these modes, which is what each will say
	}
	b.done = make(map[string]bool)
	m, err := b.machine(properties)
	if err != nil {
		return err
	}
	res, err := vm.Boot(ctx, m)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	switch {
	case err != nil:
	case res.ExitCode != 0:
		err = fmt.Errorf("the program in the guest ended with exit code %d: %s", res.ExitCode, bytes.TrimSpace(res.Stderr))
	default:
		err = errors.New("the guest ran another set of cases")
	}
	return b.rest(ctx, err)
}

const guestLimit = 30 * time.Minute // for all cases of a guest; only what hangs takes so long

// machine is the guest.
func (b *vmBoot) machine(properties string) (vm.Machine, error) {
	args := []string{"conformance-guest", "--qemu", b.qemu.Version}
	for _, m := range b.modes {
		args = append(args, "--mode", string(m))
	}
	for _, c := range b.cases {
		args = append(args, c.Name)
	}
	m, err := b.suite.program(args...)
	m.QEMU, m.Kernel = b.qemu, b.suite.in.Kernel
	width := 48
	if b.variant.Narrow {
		width = 39
	}
	m.IOMMU = fmt.Sprintf("intremap=on,aw-bits=%d,%s", width, properties)
	m.Cmdline = conformance.DevmemCmdline
	m.Devices = []string{"edu,addr=0x3,dma_mask=0xffffffffffffffff", "edu,addr=0x4,dma_mask=0xffffffffffffffff"}
	rung.JumpClock(&m)
	m.Timeout, m.Output = guestLimit, b
	return m, err
}

// Write takes what the guest writes. Lines that are results are reported.
func (b *vmBoot) Write(p []byte) (int, error) {
	b.line = append(b.line, p...)
	for {
		line, rest, ok := bytes.Cut(b.line, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		b.line = rest
		var r conformance.Result
		if json.Unmarshal(line, &r) == nil && r.Case != "" {
			r.Rung = "vm"
			b.done[string(r.Mode)+" "+r.Case] = true
			b.report(r)
		}
	}
}

// rest reports the cases that have no result: as skipped where the unit cannot be had, else as
// failed.
func (b *vmBoot) rest(ctx context.Context, why error) error {
	for _, m := range b.modes {
		place := conformance.Place{Rung: "vm", Mode: m, QEMU: b.qemu.Version}
		place.Open = func(context.Context, conformance.Variant) (conformance.Rig, error) { return nil, why }
		for _, c := range b.cases {
			if b.done[string(m)+" "+c.Name] {
				continue
			}
			if err := conformance.Run(ctx, place, []conformance.Case{c}, b.report); err != nil {
				return err
			}
		}
	}
	return nil
}

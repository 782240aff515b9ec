//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"gommu/qemu-tests/measure"
	"gommu/qemu-tests/provision"
	"gommu/qemu-tests/vm"
)

// benchGuests measure in guests.
type benchGuests struct {
	in      provision.Installed
	program func(args ...string) (vm.Machine, error) // the command with arguments
	extent  measure.Extent
}

// thisProgram is this program as a guest's.
func thisProgram(args ...string) (vm.Machine, error) {
	self, err := os.Executable()
	return vm.Machine{Init: self, Args: args}, err
}

// benchPart is one of the guests: who has the unit there.
type benchPart struct {
	unit  string // argument of bench-guest
	about string
	boot  func(*vm.Machine)
}

// Both guests have the same memory, in hugepages. The time-stamp counter is the clock of both: the kernel
// would look at it for a while and might take a slower one in the middle.
const (
	benchHugepages = 24
	benchCmdline   = "tsc=reliable hugepages="
	benchEdus      = "edu,addr=0x%x,dma_mask=0xffffffffffffffff"
)

var benchParts = []benchPart{
	{"ours", "unit ours", func(m *vm.Machine) {
		m.Cmdline = "intel_iommu=off intremap=off iomem=relaxed " + m.Cmdline
	}},
	{"linux", "unit Linux's", func(m *vm.Machine) { m.Modules = guestModules }},
}

// benchVM boots a guest for each part, one after the other, and makes one report of
// theirs.
func benchVM(ctx context.Context, g benchGuests, show *benchSteps) (measure.Report, error) {
	var parts []measure.Report
	var accel string
	for _, p := range benchParts {
		show.say("booting a guest: %s", p.about)
		b := benchGuest{progress: show.of(p.about)}
		res, err := b.run(ctx, g, p)
		if err != nil {
			return measure.Report{}, fmt.Errorf("guest with the %s: %w", p.about, err)
		}
		parts, accel = append(parts, *b.report), res.Accel
	}
	where := fmt.Sprintf("%s; in guests of QEMU %s (%s), 2 processors, Linux %s", thisMachine(), g.in.QEMUs[0].Version, accel, g.in.Kernel.Release)
	return measure.Join("vm", where, measure.VFIO, parts...)
}

// A benchGuest is one boot. It reads what the guest writes: see benchLine.
type benchGuest struct {
	progress func(done, of int, what string)
	report   *measure.Report
	line     []byte // not yet complete
}

// benchLimit is for a guest; only what hangs takes so long.
const benchLimit = 10 * time.Minute

func (b *benchGuest) run(ctx context.Context, g benchGuests, p benchPart) (*vm.Result, error) {
	args := []string{"bench-guest", "--unit", p.unit, "--budget", g.extent.Budget.String(), "--samples", strconv.Itoa(g.extent.Samples)}
	if g.extent.Short {
		args = append(args, "--short")
	}
	m, err := g.program(args...)
	if err != nil {
		return nil, err
	}
	m.QEMU, m.Kernel = g.in.QEMUs[0], g.in.Kernel
	m.Cmdline = benchCmdline + strconv.Itoa(benchHugepages)
	m.Devices = []string{fmt.Sprintf(benchEdus, 3), fmt.Sprintf(benchEdus, 4)}
	m.CPUs, m.Memory, m.Timeout, m.Output = 2, 512, benchLimit, b
	p.boot(&m)
	res, err := vm.Boot(ctx, m)
	if err != nil {
		return nil, err
	}
	return res, b.verdict(res)
}

// verdict says what is wrong with a guest that has ended.
func (b *benchGuest) verdict(res *vm.Result) error {
	switch {
	case res.ExitCode != 0:
		return fmt.Errorf("the program there ended with exit code %d: %s", res.ExitCode, bytes.TrimSpace(res.Stderr))
	case b.report == nil:
		return errors.New("it ended without a report")
	}
	return nil
}

// A benchLine is a line that the program in a guest writes: a step that begins, or the
// report.
type benchLine struct {
	Done   int             `json:"done"`
	Of     int             `json:"of"`
	What   string          `json:"what,omitempty"`
	Report *measure.Report `json:"report,omitempty"`
}

// Write takes what the guest writes. Lines that are none of ours are left.
func (b *benchGuest) Write(p []byte) (int, error) {
	b.line = append(b.line, p...)
	for {
		line, rest, ok := bytes.Cut(b.line, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		b.line = rest
		var l benchLine
		if !strings.HasPrefix(string(line), "{") || json.Unmarshal(line, &l) != nil {
			continue
		}
		if l.Report != nil {
			b.report = l.Report
		} else if l.What != "" {
			b.progress(l.Done, l.Of, l.What)
		}
	}
}

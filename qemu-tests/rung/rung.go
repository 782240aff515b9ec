package rung

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"gommu/iommu"
	"gommu/pagetable"
	"gommu/qemu-tests/provision"
	"gommu/qemu-tests/vm"
	"gommu/respool"
)

// Options say what machine to open. The zero value is one edu device, and a
// strict domain over second-stage tables in legacy mode.
type Options struct {
	// Mode and Variant are the unit's, where it is ours.
	Mode    Mode
	Variant Variant
	// Domain configures the domain. NoDomain leaves Machine.Domain nil: the
	// unit is on and nothing is attached, or the container is empty.
	Domain   iommu.Options
	NoDomain bool
	// Devices is how many edu devices there are, at most two; 0 is one.
	Devices int
	// Memory is how many bytes Machine.Memory hands out, and Tables how many frames lie in:
	// whole 2 MiB; 0 is 32 and 8 MiB.
	Memory, Tables int
	// Frames configure the pool of frames. WrapFrames, if set, puts something
	// between it and its source, to have that fail.
	Frames     respool.Options
	WrapFrames func(respool.Source[pagetable.Frame]) respool.Source[pagetable.Frame]
	// WrapMemory does the same to what the domain takes memory from.
	WrapMemory func(iommu.Memory) iommu.Memory

	// Address is the edu device to use on vfio, such as 0000:00:03.0; empty is the only
	// one that the machine has. Mask is the DMA mask of such a device, if it is not one of 64 bits.
	Address string
	Mask    uint64
	// QEMU is the one to use on qtest and for guests; the zero value is the newest that is set up.
	QEMU provision.QEMU
	// BeforeRequest fails a machine of qtest, see qtest.Config.
	BeforeRequest func(n int, command string) error

	// Args are the arguments of this program in a guest; nil is its own. Label tells
	// two Runs on one rung apart.
	Args  []string
	Label string
	// Output gets what the program writes in a guest; nil is os.Stdout.
	Output io.Writer
	// Timeout is for the whole guest; 0 is five minutes.
	Timeout time.Duration
	// JumpClock gives a guest a clock that jumps to the next timer when nothing
	// runs, so that a transfer does not take 100 ms. It is much slower otherwise, and its times mean nothing.
	JumpClock bool
}

// ErrRung reports a rung that there is not.
var ErrRung = errors.New("no such rung")

// A rung is one kind of machine.
type rung struct {
	name string
	// open fills a machine with what there is on this machine.
	open func(context.Context, *Machine, Options) error
	// guest is what to boot to have it, nil if there is none.
	guest func(Options, provision.Installed) (vm.Machine, error)
}

// Names are the rungs.
func Names() []string {
	var all []string
	for _, r := range rungs {
		all = append(all, r.name)
	}
	return all
}

func find(name string) (rung, error) {
	i := slices.IndexFunc(rungs, func(r rung) bool { return r.name == name })
	if i < 0 {
		return rung{}, fmt.Errorf("%w: %q; there are %s", ErrRung, name, strings.Join(Names(), ", "))
	}
	return rungs[i], nil
}

// withDefaults fills in what is zero.
func (o Options) withDefaults() (Options, error) {
	if o.Devices == 0 {
		o.Devices = 1
	}
	if o.Memory == 0 {
		o.Memory = 32 << 20
	}
	if o.Tables == 0 {
		o.Tables = 8 << 20
	}
	if o.Output == nil {
		o.Output = os.Stdout
	}
	if o.Timeout == 0 {
		o.Timeout = 5 * time.Minute
	}
	if o.Mode == "" {
		o.Mode = Legacy
	}
	if o.Frames.Name == "" {
		o.Frames.Name = "frames"
	}
	if o.Devices < 0 || o.Devices > 2 || o.Memory < 0 || o.Memory%size2M != 0 || o.Tables < 0 || o.Tables%size2M != 0 || !slices.Contains(Modes, o.Mode) {
		return o, fmt.Errorf("rung: %w: %d devices, %d and %d bytes, mode %q", iommu.ErrOptions, o.Devices, o.Memory, o.Tables, o.Mode)
	}
	return o, nil
}

// Open opens a machine here: on vm this process runs in such a guest already, on
// vfio the device is this machine's.
func Open(ctx context.Context, name string, opts Options) (*Machine, error) {
	r, err := find(name)
	if err != nil {
		return nil, err
	}
	if opts, err = opts.withDefaults(); err != nil {
		return nil, err
	}
	m := &Machine{Rung: name}
	if err := m.open(ctx, r, opts); err != nil {
		return nil, errors.Join(fmt.Errorf("rung %s: %w", name, err), m.Close())
	}
	return m, nil
}

// Run opens a machine on the named rung and calls f with it. Where that takes a
// guest it boots one that runs this program with the same arguments (or
// Options.Args); the first Run there on the same rung with the same Options.Label calls
// f, and the process ends when f has returned. What it writes comes back to Options.Output, and its
// error is Run's, as text. Other Runs return nil there at once. The program's main
// begins with [Main] or guest.Init, the TestMain of a test with guest.Main.
func Run(ctx context.Context, name string, opts Options, f func(ctx context.Context, m *Machine) error) error {
	r, err := find(name)
	if err != nil {
		return err
	}
	if opts, err = opts.withDefaults(); err != nil {
		return err
	}
	switch booted, mine := bootedFor(name, opts.Label); {
	case mine:
		answer(with(ctx, name, opts, f)) // ends the process
		return nil
	case booted:
		return nil
	case r.guest != nil:
		return boot(ctx, r, opts)
	default:
		return with(ctx, name, opts, f)
	}
}

func with(ctx context.Context, name string, opts Options, f func(ctx context.Context, m *Machine) error) (err error) {
	m, err := Open(ctx, name, opts)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	return f(ctx, m)
}

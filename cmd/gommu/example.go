//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"gommu/iommu/vtd"
	"gommu/pagetable"
	"gommu/qemu-tests/conformance"
	"gommu/qemu-tests/provision"
	"gommu/respool"
)

// exampleOptions are the flags of the commands that look at an example.
type exampleOptions struct{ on, mode string }

var errMode = errors.New("no such mode")

// Rungs that an example can be on.
const (
	onModel = "model"
	onQtest = "qtest"
)

const exampleText = "The example is a domain that this program sets up for the occasion: a unit that translates the DMA of device 00:03.0 through a\n" +
	"small table with leaves of 4 KiB, 2 MiB and 1 GiB.\n\n" +
	"Rungs:\n" +
	"  model  a unit in this process; needs nothing\n" +
	"  qtest  the unit of the newest QEMU that is set up (gommu setup)"

func (o *exampleOptions) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.on, "on", onModel, "rung: model or qtest")
	cmd.Flags().StringVar(&o.mode, "mode", string(conformance.Legacy), "legacy, scalable-second or scalable-first")
}

// place is where the example is to be.
func (o exampleOptions) place() (conformance.Place, error) {
	var places []conformance.Place
	switch o.on {
	case onModel:
		places = conformance.ModelPlaces()
	case onQtest:
		qemus, err := provision.FindQEMU(provision.Options{})
		if err != nil {
			return conformance.Place{}, err
		}
		places = conformance.QtestPlaces(qemus)
	default:
		return conformance.Place{}, fmt.Errorf("%w: %q; take --on model or qtest", errRung, o.on)
	}
	i := slices.IndexFunc(places, func(p conformance.Place) bool { return string(p.Mode) == o.mode })
	if i < 0 {
		return conformance.Place{}, fmt.Errorf("%w: %q; take --mode legacy, scalable-second or scalable-first", errMode, o.mode)
	}
	return places[i], nil
}

// An example is a unit that translates for one device.
type example struct {
	place  conformance.Place
	rig    conformance.Rig
	mem    *pagetable.Memory
	frames *respool.Pool[pagetable.Frame]
	unit   *vtd.Unit
	table  *pagetable.Table
	source uint16
}

const exampleDomain = 2

// exampleMappings are what the example maps: where, and how much.
var exampleMappings = []struct {
	iova, size uint64
	prot       pagetable.Prot
}{
	{0x1000, 4 * pagetable.FrameSize, pagetable.Read | pagetable.Write},
	{0x8000, pagetable.FrameSize, pagetable.Read},
	{0x4000_0000, 1 << 30, pagetable.Read | pagetable.Write},
	{0x123456600000, 2 << 20, pagetable.Read | pagetable.Write},
	{0x123456800000, 3 * pagetable.FrameSize, pagetable.Read},
}

// withExample sets an example up, lets f look at it and takes it down again.
func withExample(ctx context.Context, o exampleOptions, f func(*example) error) (err error) {
	p, err := o.place()
	if err != nil {
		return err
	}
	e := &example{place: p}
	defer func() { err = errors.Join(err, e.close()) }()
	if err := e.open(ctx); err != nil {
		return err
	}
	return f(e)
}

func (e *example) open(ctx context.Context) error {
	var err error
	if e.rig, err = e.place.Open(ctx, conformance.Variant{}); err != nil {
		return err
	}
	if e.mem, err = pagetable.NewMemory(e.rig.Tables()...); err != nil {
		return err
	}
	if e.frames, err = respool.New(ctx, e.mem.Frames(), respool.Options{Name: "frames"}); err != nil {
		return err
	}
	if e.unit, err = vtd.Open(e.rig.Registers(), e.mem, e.frames, vtd.Options{Mode: e.place.Mode.Unit()}); err != nil {
		return err
	}
	opts, err := e.unit.TableOptions(e.place.Mode.Stage())
	if err != nil {
		return err
	}
	if e.table, err = pagetable.New(e.mem, e.frames, opts); err != nil {
		return err
	}
	e.source = e.rig.Devices()[0].Source()
	if err := e.unit.Attach(e.source, exampleDomain, e.table); err != nil {
		return err
	}
	for _, m := range exampleMappings {
		bus := e.rig.Data().Bus &^ (m.size - 1)
		if err := e.table.Map(m.iova, bus, m.size, m.prot); err != nil {
			return err
		}
	}
	return e.unit.Enable(ctx)
}

func (e *example) close() error {
	var errs []error
	if e.unit != nil {
		errs = append(errs, e.unit.Close())
	}
	if e.table != nil {
		errs = append(errs, e.table.Close())
	}
	if e.frames != nil {
		errs = append(errs, closePool(e.frames))
	}
	if e.rig != nil {
		errs = append(errs, e.rig.Close())
	}
	return errors.Join(errs...)
}

// String says what the example is.
func (e *example) String() string {
	where := e.place.Rung
	if e.place.QEMU != "" {
		where += ", QEMU " + e.place.QEMU
	}
	return fmt.Sprintf("example on %s, %s mode, device %s, domain %d", where, e.place.Mode, requesterText(e.source), exampleDomain)
}

// requesterText is a requester id as bus:device.function.
func requesterText(id uint16) string {
	return fmt.Sprintf("%02x:%02x.%d", id>>8, id>>3&0x1f, id&7)
}

package rung

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gommu/iommu"
	"gommu/iommu/vtd"
	"gommu/pagetable"
	"gommu/pci"
	"gommu/respool"
	"gommu/vfio/edu"
)

// A Device is an edu device behind a machine's unit.
type Device struct {
	Function  pci.Function
	Requester uint16        // its requester id
	Mask      uint64        // its DMA mask
	Interrupt edu.Interrupt // its MSI; nil without a domain
}

// Edu opens the driver.
func (d Device) Edu() (*edu.Device, error) {
	return edu.Open(d.Function, edu.Options{DMAMask: d.Mask, Interrupt: d.Interrupt})
}

// A Machine is an edu device, what maps memory for it, and its interrupt.
type Machine struct {
	Rung string
	QEMU string // its version, if this process knows it

	Device           // the first
	Devices []Device // all

	// Domain is what the devices are attached to, and Memory what can be registered there.
	Domain *iommu.Domain
	Memory iommu.Memory

	// Unit and Tables are what is under the domain where the unit is ours; it is on.
	Unit   *vtd.Unit
	Tables iommu.Tables
	// Mapper maps by calls of the kernel where the unit is its; nil elsewhere. On
	// vfio Container has the *vfio.Container.
	Mapper iommu.Mapper

	vfioMachine
	registers vtd.Registers
	tables    []pagetable.Segment
	source    *pagetable.FrameSource
	closers   []func() error
}

// later has Close call f, before what was given to it earlier.
func (m *Machine) later(f func() error) { m.closers = append(m.closers, f) }

// segments makes the memory that is handed out, and sees to it that none stays pinned.
func (m *Machine) segments(segs ...pagetable.Segment) error {
	mem, err := iommu.NewSegments(segs...)
	if err != nil {
		return err
	}
	m.Memory = mem
	m.later(func() error {
		if _, n := mem.InUse(); n > 0 {
			return fmt.Errorf("%d pieces of memory are still pinned", n)
		}
		return nil
	})
	return nil
}

// open opens all of a machine. What was opened before an error, Close closes.
func (m *Machine) open(ctx context.Context, r rung, o Options) error {
	if err := r.open(ctx, m, o); err != nil {
		return err
	}
	if o.WrapMemory != nil {
		m.Memory = o.WrapMemory(m.Memory)
	}
	if m.registers != nil {
		if err := m.openUnit(ctx, o); err != nil {
			return err
		}
	}
	if !o.NoDomain {
		if err := m.openDomain(ctx, o); err != nil {
			return err
		}
	}
	m.Device = m.Devices[0]
	m.later(m.stop)
	return nil
}

// stop ends the DMA of all devices, before what they reach goes.
func (m *Machine) stop() error {
	var errs []error
	for _, d := range m.Devices {
		_, err := pci.SetBusMaster(d.Function.Config(), false)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// closeLimit is how long a pool or a domain may take to end.
const closeLimit = 20 * time.Second

// closing makes what needs a context one of closers.
func closing(f func(context.Context) error) func() error {
	return func() error {
		ctx, cancel := context.WithTimeout(context.Background(), closeLimit)
		defer cancel()
		return f(ctx)
	}
}

// openUnit opens the unit and switches translation on: devices reach nothing then.
func (m *Machine) openUnit(ctx context.Context, o Options) error {
	mem, err := pagetable.NewMemory(m.tables...)
	if err != nil {
		return err
	}
	m.source = mem.Frames()
	var source respool.Source[pagetable.Frame] = m.source
	if o.WrapFrames != nil {
		source = o.WrapFrames(source)
	}
	if o.Frames.Low == 0 {
		o.Frames.Low = 64
	}
	frames, err := respool.New(ctx, source, o.Frames)
	if err != nil {
		return err
	}
	m.later(func() error {
		if n := m.source.Outstanding(); n != 0 {
			return fmt.Errorf("%d frames did not come back", n)
		}
		return nil
	})
	m.later(closing(frames.Close))
	if m.Unit, err = vtd.Open(m.registers, mem, frames, vtd.Options{Mode: o.Mode.Unit()}); err != nil {
		return err
	}
	m.later(m.Unit.Close)
	m.Tables = iommu.Tables{Frames: frames, Memory: mem}
	if m.Tables.Table, err = m.Unit.TableOptions(o.Mode.Stage()); err != nil {
		return err
	}
	return m.Unit.Enable(ctx)
}

// openDomain makes the domain, attaches the devices, and aims their interrupts.
func (m *Machine) openDomain(ctx context.Context, o Options) (err error) {
	if m.Mapper != nil {
		m.Domain, err = iommu.NewPremapped(ctx, m.Memory, m.Mapper, o.Domain)
	} else {
		m.Domain, err = iommu.New(ctx, m.Memory, m.Tables, o.Domain)
	}
	if err != nil {
		return err
	}
	m.later(closing(m.closeDomain))
	for i := range m.Devices {
		d := &m.Devices[i]
		attached := iommu.Device{Source: d.Requester, Mask: d.Mask}
		if m.Unit != nil {
			attached.Unit = m.Unit
		}
		if err := m.Domain.Attach(attached); err != nil {
			return err
		}
		m.later(func() error { return m.Domain.Detach(attached) })
		if d.Interrupt == nil {
			if err := m.aim(ctx, d); err != nil {
				return err
			}
		}
	}
	return nil
}

// closeDomain ends the domain, also if somebody left mappings in it, which is an error.
func (m *Machine) closeDomain(ctx context.Context) error {
	err := m.Domain.Close(ctx)
	if errors.Is(err, iommu.ErrMapped) {
		err = errors.Join(err, m.Domain.CloseForced(ctx))
	}
	return err
}

// Faults are the DMA that the unit has blocked since the last call. Where the unit is the kernel's
// that is not told here.
func (m *Machine) Faults() ([]iommu.Fault, error) {
	if m.Unit == nil {
		return nil, Unavailable("the kernel has the unit and reports its faults in its log")
	}
	faults, lost, err := m.Unit.Faults()
	var all []iommu.Fault
	for _, f := range faults {
		all = append(all, iommu.Fault{
			Source: f.Source, IOVA: f.IOVA, Write: f.Write, HasPASID: f.HasPASID, PASID: f.PASID,
			Reason: uint8(f.Reason), Text: f.Reason.String(),
		})
	}
	if len(all) > 0 {
		all[len(all)-1].Lost = lost
	}
	return all, err
}

// Close takes the machine down, newest first: what is still mapped in the domain is
// refused by an error that names it. Twice is harmless.
func (m *Machine) Close() error {
	var errs []error
	for len(m.closers) > 0 {
		last := len(m.closers) - 1
		f := m.closers[last]
		m.closers = m.closers[:last]
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}

package iommu

import (
	"errors"
	"fmt"
	"slices"
)

// Attach gives a device the domain: what is mapped, it reaches. It fails with ErrMask if the domain may hand out
// IOVAs that the device cannot drive. It may sleep.
func (d *Domain) Attach(dev Device) error {
	d.life.Lock()
	defer d.life.Unlock()
	if err := d.attach(dev); err != nil {
		return &OpError{Op: opAttach, Domain: d.opts.Name, Err: fmt.Errorf("device %#04x: %w", dev.Source, err)}
	}
	return nil
}

func (d *Domain) attach(dev Device) error {
	switch {
	case d.gone, d.closed.Load():
		return ErrClosed
	case d.attached(dev) >= 0:
		return ErrAttached
	case dev.Mask != 0 && dev.Mask < d.top:
		return fmt.Errorf("%w: it drives %#x, the domain hands out up to %#x: set Options.Mask", ErrMask, dev.Mask, d.top)
	case dev.Unit == nil && d.table != nil:
		return fmt.Errorf("%w: Device.Unit is not set", ErrOptions)
	}
	if d.table != nil {
		b, err := d.bind(dev.Unit)
		if err != nil {
			return err
		}
		if err := b.Attach(dev.Source); err != nil {
			return errors.Join(err, d.unbind(b))
		}
		b.devices++
	}
	d.devices = append(d.devices, dev)
	d.subject.attached(sourcesOf(d.devices))
	return nil
}

// Detach takes the domain away from a device: afterwards it reaches nothing. It may sleep.
func (d *Domain) Detach(dev Device) error {
	d.life.Lock()
	defer d.life.Unlock()
	if err := d.detach(dev); err != nil {
		return &OpError{Op: opDetach, Domain: d.opts.Name, Err: fmt.Errorf("device %#04x: %w", dev.Source, err)}
	}
	return nil
}

func (d *Domain) detach(dev Device) error {
	i := d.attached(dev)
	switch {
	case d.gone:
		return ErrClosed
	case i < 0:
		return ErrNotAttached
	}
	if d.table != nil {
		b, err := d.bind(dev.Unit)
		if err != nil {
			return err
		}
		if err := d.takeFrom(b, dev); err != nil {
			return err
		}
		b.devices--
		d.forgetDevice(i) // it is detached, whatever becomes of the binding
		return d.unbind(b)
	}
	d.forgetDevice(i)
	return nil
}

// takeFrom takes the domain away from a device in a unit. If that fails the device is detached, too, but the unit
// may have kept something: it has to forget all, unless it is gone.
func (d *Domain) takeFrom(b *bound, dev Device) error {
	err := b.Detach(dev.Source)
	if err == nil {
		return nil
	}
	f := &d.flusher
	f.take()
	defer f.leave()
	if rerr := b.recover(); rerr != nil {
		return errors.Join(err, rerr)
	}
	return nil
}

func (d *Domain) forgetDevice(i int) {
	d.devices = slices.Delete(d.devices, i, i+1)
	d.subject.attached(sourcesOf(d.devices))
}

func (d *Domain) attached(dev Device) int {
	return slices.IndexFunc(d.devices, func(x Device) bool { return x.Source == dev.Source && x.Unit == dev.Unit })
}

// bind is the binding of a unit, which is made known to the domain before the unit reads the table: a Map or
// Unmap that did not see it in the list had written its entries before, and they are
// out of its processor's buffers when the world has stopped once.
func (d *Domain) bind(u Unit) (*bound, error) {
	f := &d.flusher
	for _, b := range *f.bindings.Load() {
		if b.unit == u {
			return b, nil
		}
	}
	x, err := u.Bind(d.table)
	if err != nil {
		return nil, err
	}
	if s, ok := x.(Subject); ok {
		s.TraceAs(d.subject.number)
	}
	f.take()
	started := f.started.Load()
	b := &bound{Binding: d.check.watch(x), unit: u, begun: started, done: started}
	all := append(slices.Clone(*f.bindings.Load()), b)
	f.bindings.Store(&all)
	f.leave()
	d.grace()
	return b, nil
}

// unbind takes a unit without devices out of the domain. Nothing is cached there any more.
func (d *Domain) unbind(b *bound) error {
	if b.devices > 0 {
		return nil
	}
	f := &d.flusher
	f.take()
	all := slices.DeleteFunc(slices.Clone(*f.bindings.Load()), func(x *bound) bool { return x == b })
	f.bindings.Store(&all)
	f.leave()
	return b.Close()
}

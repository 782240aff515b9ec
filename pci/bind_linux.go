package pci

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// VFIODriver is the driver that gives PCI functions to VFIO.
const VFIODriver = "vfio-pci"

// A Binding is a change of a function's driver that can be taken back.
type Binding struct {
	s        Sysfs
	addr     Address
	driver   string
	former   string // driver before, "" if none
	override string // driver_override before, "" if none

	mu   sync.Mutex
	done bool // nothing to take back (any more)
}

// Address is the function's.
func (b *Binding) Address() Address { return b.addr }

// Former is the driver that the function had, "" if none.
func (b *Binding) Former() string { return b.former }

// Bind gives the function to driver, usually [VFIODriver], by way of driver_override. A function
// that has that driver already is left alone, and the Undo of its Binding does nothing. If Bind
// fails, the former driver and override are back.
//
// The kernel takes the function away from its former driver: a disk with mounted file systems, or a
// network card in use, is gone for the rest of the machine.
//
// Errors: ErrNotFound, ErrNoGroup (a vfio driver needs an IOMMU), ErrNoDriver (with the modprobe
// command), ErrPermission, ErrNotBound, and what the kernel said.
func (s Sysfs) Bind(addr Address, driver string) (*Binding, error) {
	i, err := s.Info(addr)
	if err != nil {
		return nil, err
	}
	b := &Binding{s: s, addr: addr, driver: driver, former: i.Driver}
	if i.Driver == driver {
		b.done = true
		return b, nil
	}
	if driver == VFIODriver && i.Group < 0 {
		return nil, b.error("bind", ErrNoGroup, s.noGroupRemedy())
	}
	if _, err := s.fs().readDir(s.driver(driver)); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w: %s", ErrNoDriver, driver)
		}
		return nil, b.error("bind", err, "modprobe "+driver)
	}
	text, err := s.fs().readFile(b.file("driver_override"))
	if err != nil {
		return nil, b.error("bind", err, "")
	}
	if b.override = strings.TrimSpace(string(text)); b.override == "(null)" {
		b.override = ""
	}
	if err := b.take(); err != nil {
		return nil, err
	}
	return b, nil
}

// take does the binding, or leaves everything as it was.
func (b *Binding) take() error {
	w := b.s.fs().writeFile
	if err := w(b.file("driver_override"), b.driver); err != nil {
		return b.error("bind", fmt.Errorf("setting driver_override: %w", err), "")
	}
	if b.former != "" {
		if err := w(path.Join(b.s.driver(b.former), "unbind"), b.addr.String()); err != nil {
			return errors.Join(b.error("bind", fmt.Errorf("unbinding from %s: %w", b.former, err), ""), b.restore())
		}
	}
	if err := w(path.Join(b.s.driver(b.driver), "bind"), b.addr.String()); err != nil {
		return errors.Join(b.error("bind", fmt.Errorf("binding to %s: %w", b.driver, err), ""), b.restore())
	}
	// The write says nothing when the driver refused the function quietly.
	switch now, err := b.current(); {
	case err != nil:
		return errors.Join(b.error("bind", err, ""), b.restore())
	case now != b.driver:
		return errors.Join(b.error("bind", fmt.Errorf("%w: %s", ErrNotBound, b.driver), "dmesg says why"), b.restore())
	}
	return nil
}

// Undo gives the function back to the driver that it had, or to none, and restores the override. It
// waits until every user of the function has closed it, so close the function first. Called
// again after it succeeded, it does nothing; after a failure it tries again.
func (b *Binding) Undo() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.done {
		return nil
	}
	if err := b.restore(); err != nil {
		return err
	}
	b.done = true
	return nil
}

// restore puts back the former driver and override. It goes on after an error, to put back what can
// be. A function that never left its former driver keeps it.
func (b *Binding) restore() error {
	var errs []error
	note := func(what string, err error) {
		if err != nil {
			errs = append(errs, b.error("undo binding of", fmt.Errorf("%s: %w", what, err), ""))
		}
	}
	w := b.s.fs().writeFile
	now, err := b.current()
	note("reading the driver", err)
	if now != "" && now != b.former {
		note("unbinding from "+now, w(path.Join(b.s.driver(now), "unbind"), b.addr.String()))
	}
	override := b.override
	if override == "" {
		override = "\n" // an empty line clears it
	}
	note("restoring driver_override", w(b.file("driver_override"), override))
	if b.former != "" && now != b.former {
		note("binding to "+b.former, w(path.Join(b.s.driver(b.former), "bind"), b.addr.String()))
	}
	return errors.Join(errs...)
}

// current is the function's driver now.
func (b *Binding) current() (string, error) {
	r := &attrs{s: b.s, dir: b.s.device(b.addr)}
	return r.link("driver"), r.err
}

func (b *Binding) file(name string) string { return path.Join(b.s.device(b.addr), name) }

func (s Sysfs) driver(name string) string { return s.path("bus/pci/drivers/" + name) }

// error is err as an error about the function, with what to do about the usual causes.
func (b *Binding) error(op string, err error, remedy string) error {
	switch {
	case remedy != "":
	case errors.Is(err, fs.ErrPermission):
		remedy = "run as root"
	case errors.Is(err, unix.EBUSY):
		remedy = "another program uses the function: stop it first"
	case errors.Is(err, unix.EINVAL) && b.driver == VFIODriver:
		remedy = "vfio-pci takes only functions with an ordinary header that an IOMMU covers (intel_iommu=on)"
	case errors.Is(err, unix.ENODEV):
		remedy = "the driver does not know this function, or it is bound elsewhere"
	}
	target := b.addr.String()
	if op == "bind" {
		target += " to " + b.driver
	}
	return &OpError{Op: op, Target: target, Err: err, Remedy: remedy}
}

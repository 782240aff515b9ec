package vfio

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"gommu/pci"
)

// A Device is a PCI function that this process owns through VFIO. It is a pci.Function.
type Device struct {
	sys   system
	group *Group
	addr  pci.Address
	fd    int
	flags uint32
	cfg   *config
	whole *Container // what Close closes too, if Open made it

	mu     sync.Mutex // after Group.mu; held while fd is used by what Close must wait for
	closed bool
	bars   [6]*bar
	irqs   map[IRQKind][]*Interrupt
}

var _ pci.Function = (*Device)(nil)

// Open opens a function with a container and a group of its own. It does not bind: the function must be bound to vfio-pci
// already (pci.Bind), and the other members of its group to no driver of the kernel. Close closes all that
// Open opened.
//
// Errors: pci.ErrNotFound, ErrNoIOMMU, pci.ErrNoGroup, and those of [OpenContainer], [OpenGroup],
// [Container.Attach] and [Group.Device].
func Open(addr pci.Address, opts Options) (*Device, error) {
	info, err := opts.Sysfs.Info(addr)
	if err != nil {
		return nil, err
	}
	if info.Group < 0 {
		return nil, noGroup(addr, opts)
	}
	c, err := OpenContainer(opts)
	if err != nil {
		return nil, err
	}
	d, err := c.open(addr, info.Group)
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	d.whole = c
	return d, nil
}

// noGroup says whether there is no IOMMU at all or none for this function.
func noGroup(addr pci.Address, opts Options) error {
	ids, err := opts.Sysfs.Groups()
	if err != nil {
		return err
	}
	if len(ids) == 0 {
		return &OpError{Op: "open", Target: addr.String(), Err: fmt.Errorf("%w: %w", ErrNoIOMMU, pci.ErrNoGroup), Remedy: iommuRemedy}
	}
	_, err = opts.Sysfs.GroupOf(addr)
	return err
}

// open opens the group and the device in c.
func (c *Container) open(addr pci.Address, group int) (*Device, error) {
	g, err := OpenGroup(group, c.opts)
	if err != nil {
		return nil, err
	}
	if err := c.Attach(g); err != nil {
		return nil, errors.Join(err, g.Close())
	}
	return g.Device(addr) // the container closes the group
}

// Device opens a function of the group, which must be attached to a container. The function is left as the kernel
// hands it out: bus mastering off, reset if it can be. Errors: ErrNotAttached, ErrNotBound, ErrNotPCI, ErrClosed.
func (g *Group) Device(addr pci.Address) (*Device, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	fail := func(err error, remedy string) (*Device, error) {
		return nil, &OpError{Op: "open", Target: addr.String(), Err: err, Remedy: remedy}
	}
	if g.closed {
		return fail(ErrClosed, "")
	}
	if g.container == nil {
		return fail(ErrNotAttached, "attach group "+strconv.Itoa(g.id)+" to a container first")
	}
	name := append([]byte(addr.String()), 0)
	fd, err := g.sys.ioctlPtr(g.fd, ioctlGroupGetDeviceFD, name)
	if errors.Is(err, unix.ENODEV) {
		remedy, err := g.notBound(addr, err)
		return fail(err, remedy)
	}
	if err != nil {
		return fail(err, "")
	}
	d := &Device{sys: g.sys, group: g, addr: addr, fd: fd, irqs: map[IRQKind][]*Interrupt{}}
	if err := d.setUp(); err != nil {
		return fail(errors.Join(err, g.sys.close(fd)), "")
	}
	g.devices = append(g.devices, d)
	return d, nil
}

// notBound says why the group has no such device.
func (g *Group) notBound(addr pci.Address, errno error) (remedy string, err error) {
	info, err := g.opts.Sysfs.Info(addr)
	if err != nil {
		return "", err
	}
	if info.Group != g.id {
		return "it is in group " + strconv.Itoa(info.Group), fmt.Errorf("it is not in group %d: %w", g.id, errno)
	}
	return "bind it to vfio-pci (pci.Bind, modprobe vfio-pci)", fmt.Errorf("%w: %s: %w", ErrNotBound, info, errno)
}

// setUp asks what the device is and where its configuration space lies.
func (d *Device) setUp() error {
	answer, err := query(d.sys, d.fd, ioctlDeviceGetInfo, bytesOf(&deviceInfo{}))
	if err != nil {
		return fmt.Errorf("asking about the device: %w", err)
	}
	var info deviceInfo
	decode(&info, answer)
	if info.flags&deviceFlagPCI == 0 {
		return ErrNotPCI
	}
	d.flags = info.flags
	r, err := d.region(regionConfig)
	if err != nil {
		return err
	}
	if r.Size < pci.ConfigSize || r.Size > pci.ExtendedConfigSize {
		return fmt.Errorf("%w: %#x bytes of configuration space", ErrBadInfo, r.Size)
	}
	d.cfg = &config{d: d, size: int(r.Size), offset: int64(r.offset)}
	return nil
}

// Address is the function's.
func (d *Device) Address() pci.Address { return d.addr }

// Group is the device's group.
func (d *Device) Group() *Group { return d.group }

// Container is what the device's DMA is mapped in; nil once the group is closed.
func (d *Device) Container() *Container {
	d.group.mu.Lock()
	defer d.group.mu.Unlock()
	return d.group.container
}

// Config is configuration space as VFIO shows it: writes that could disturb the host (BARs, MSI) change a copy.
func (d *Device) Config() pci.Config { return d.cfg }

// CanReset reports whether the kernel can reset the device alone.
func (d *Device) CanReset() bool { return d.flags&deviceFlagReset != 0 }

// Reset resets the device, or returns pci.ErrNoReset. BARs stay open. Interrupts stay enabled in the kernel, but
// a device forgets what it was programmed to.
func (d *Device) Reset() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return d.error("reset", ErrClosed)
	}
	if err := d.reset(); err != nil {
		return d.error("reset", err)
	}
	return nil
}

func (d *Device) reset() error {
	if !d.CanReset() {
		return pci.ErrNoReset
	}
	_, err := d.sys.ioctl(d.fd, ioctlDeviceReset, 0)
	if errors.Is(err, unix.ENOTTY) {
		return fmt.Errorf("%w: %w", pci.ErrNoReset, err)
	}
	return err
}

// Close stops the device (bus mastering off, interrupts off, reset if it can be), unmaps its BARs and closes it,
// and, if [Open] made it, its group and container. Mappings of a container that stays open stay. Twice is
// harmless.
func (d *Device) Close() error {
	err := d.close()
	if d.whole != nil {
		err = errors.Join(err, d.whole.Close())
	}
	return err
}

// close closes the device alone.
func (d *Device) close() error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil
	}
	errs := d.stop()
	for _, b := range d.bars {
		if b != nil {
			errs = append(errs, b.unmap())
		}
	}
	d.closed = true
	errs = append(errs, d.sys.close(d.fd))
	d.mu.Unlock()
	d.group.drop(d)
	if err := errors.Join(errs...); err != nil {
		return d.error("close", err)
	}
	return nil
}

// stop ends the device's DMA and interrupts. A device that has gone does neither.
func (d *Device) stop() (errs []error) {
	locked := lockedConfig{d.cfg}
	if _, err := pci.SetBusMaster(locked, false); err != nil && !errors.Is(err, pci.ErrNoAnswer) {
		errs = append(errs, err)
	}
	for kind := range d.irqs {
		errs = append(errs, d.disable(kind))
	}
	if d.CanReset() {
		if err := d.reset(); err != nil {
			errs = append(errs, fmt.Errorf("resetting: %w", err))
		}
	}
	return errs
}

func (d *Device) error(op string, err error) error {
	return &OpError{Op: op, Target: d.addr.String(), Err: err}
}

// pageSize is the unit of mapping files.
var pageSize = uint64(os.Getpagesize())

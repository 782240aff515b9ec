package vfio

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"gommu/pci"
)

// Options say where VFIO is. The zero value is the machine's own.
type Options struct {
	// Sysfs is asked about groups, members and drivers.
	Sysfs pci.Sysfs
	// Dev is the directory of the VFIO nodes; empty means /dev/vfio.
	Dev string

	sys system // nil means the kernel
}

func (o Options) system() system {
	if o.sys != nil {
		return o.sys
	}
	return kernel{}
}

func (o Options) node(name string) string {
	if o.Dev == "" {
		return path.Join("/dev/vfio", name)
	}
	return path.Join(o.Dev, name)
}

// A Container is one I/O address space: what is mapped in it is seen by every device of the groups attached to it.
type Container struct {
	opts Options
	sys  system

	closing sync.Mutex // held by Close, so that a second one returns when all is closed

	mu       sync.RWMutex // after closing; held for reading by what uses fd
	fd       int
	closed   bool
	groups   []*Group
	info     IOMMUInfo // of the attached groups; Entries is stale
	unmapAll bool
}

// OpenContainer opens an empty container. Errors: ErrNoVFIO, ErrPermission, ErrVersion, ErrNoType1.
func OpenContainer(opts Options) (*Container, error) {
	c := &Container{opts: opts, sys: opts.system()}
	fail := func(err error, remedy string) (*Container, error) {
		return nil, &OpError{Op: "open container", Err: err, Remedy: remedy}
	}
	var err error
	c.fd, err = c.sys.open(opts.node("vfio"))
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fail(err, "run as root, or chmod 0666 "+opts.node("vfio")+" (it gives no rights by itself)")
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return fail(fmt.Errorf("%w: %w", ErrNoVFIO, err), "modprobe vfio_iommu_type1 vfio-pci")
	case err != nil:
		return fail(err, "")
	}
	if remedy, err := c.check(); err != nil {
		return fail(errors.Join(err, c.sys.close(c.fd)), remedy)
	}
	return c, nil
}

// check asks whether the kernel speaks what this package speaks.
func (c *Container) check() (remedy string, err error) {
	v, err := c.sys.ioctl(c.fd, ioctlGetAPIVersion, 0)
	if err != nil {
		return "", fmt.Errorf("asking the version: %w", err)
	}
	if v != apiVersion {
		return "", fmt.Errorf("%w: %d, not %d", ErrVersion, v, apiVersion)
	}
	v, err = c.sys.ioctl(c.fd, ioctlCheckExtension, extType1v2)
	if err != nil {
		return "", fmt.Errorf("asking for type 1 v2: %w", err)
	}
	if v <= 0 {
		return "modprobe vfio_iommu_type1", ErrNoType1
	}
	return "", nil
}

// Attach puts a group into the container, and turns the container's IOMMU on if it is the first. The container
// owns the group from then on. The functions of the group must have been taken from the kernel's drivers
// (pci.Bind), all of them.
//
// Errors: ErrNotViable, which names the members in the way; ErrAttached; ErrInUse; ErrClosed. A group that could not be attached
// is as before.
func (c *Container) Attach(g *Group) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.closed || g.closed {
		return g.error("attach", ErrClosed, "")
	}
	if g.container != nil {
		return g.error("attach", ErrAttached, "")
	}
	if err := g.checkViable(); err != nil {
		return err
	}
	fd := int32(c.fd)
	if _, err := c.sys.ioctlPtr(g.fd, ioctlGroupSetContainer, bytesOf(&fd)); err != nil {
		return g.attachError(err)
	}
	if err := c.turnOn(g); err != nil {
		_, uerr := c.sys.ioctl(g.fd, ioctlGroupUnset, 0)
		return errors.Join(err, uerr)
	}
	c.groups = append(c.groups, g)
	g.container = c
	return nil
}

// turnOn sets the IOMMU type with the first group, and asks what the IOMMU can do now: another group may narrow it.
func (c *Container) turnOn(g *Group) error {
	if len(c.groups) == 0 {
		if _, err := c.sys.ioctl(c.fd, ioctlSetIOMMU, extType1v2); err != nil {
			remedy := ""
			if errors.Is(err, unix.EPERM) {
				remedy = "the machine lacks interrupt remapping: turn it on (QEMU: -device intel-iommu,intremap=on), or trust the device (modprobe vfio_iommu_type1 allow_unsafe_interrupts=1)"
			}
			return g.error("attach", fmt.Errorf("turning type 1 v2 on: %w", err), remedy)
		}
	}
	info, err := c.query()
	if err != nil {
		return g.error("attach", err, "")
	}
	// Since Linux 5.12; without an answer it is not there.
	if v, err := c.sys.ioctl(c.fd, ioctlCheckExtension, extUnmapAll); err != nil {
		return g.error("attach", fmt.Errorf("asking for unmap-all: %w", err), "")
	} else {
		c.unmapAll = v > 0
	}
	c.info = info
	return nil
}

// query asks for the IOMMU's abilities.
func (c *Container) query() (IOMMUInfo, error) {
	answer, err := query(c.sys, c.fd, ioctlIOMMUGetInfo, bytesOf(&iommuInfo{}))
	if err != nil {
		return IOMMUInfo{}, fmt.Errorf("asking about the IOMMU: %w", err)
	}
	return parseIOMMUInfo(answer)
}

// Info asks what the container's IOMMU can do, and how many more mappings it takes now. Errors: ErrNotAttached, ErrClosed, ErrBadInfo.
func (c *Container) Info() (IOMMUInfo, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if err := c.ready(); err != nil {
		return IOMMUInfo{}, &OpError{Op: "ask about IOMMU", Err: err}
	}
	info, err := c.query()
	if err != nil {
		return IOMMUInfo{}, &OpError{Op: "ask about IOMMU", Err: err}
	}
	return info, nil
}

// ready says why the container cannot map yet, or any more.
func (c *Container) ready() error {
	if c.closed {
		return ErrClosed
	}
	if len(c.groups) == 0 {
		return ErrNotAttached
	}
	return nil
}

// Close stops and closes the devices of the container's groups, closes the groups and then the container. The kernel
// drops all mappings with it. Twice is harmless.
func (c *Container) Close() error {
	c.closing.Lock()
	defer c.closing.Unlock()
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true // from here on no group is attached, and nobody else uses fd
	groups := slices.Clone(c.groups)
	c.mu.Unlock()

	var errs []error
	for _, g := range slices.Backward(groups) {
		errs = append(errs, g.Close())
	}
	if err := c.sys.close(c.fd); err != nil {
		errs = append(errs, &OpError{Op: "close container", Err: err})
	}
	return errors.Join(errs...)
}

// drop forgets a group that was closed. Without groups the kernel has dropped the IOMMU and all mappings.
func (c *Container) drop(g *Group) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.groups = slices.DeleteFunc(c.groups, func(x *Group) bool { return x == g })
	if len(c.groups) == 0 {
		c.info = IOMMUInfo{}
	}
}

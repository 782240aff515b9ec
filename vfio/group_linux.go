package vfio

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"gommu/pci"
)

// A Group is an open IOMMU group: the smallest set of functions that the IOMMU can tell from the rest.
type Group struct {
	opts Options
	sys  system
	id   int

	closing sync.Mutex // as the container's, and after it

	mu        sync.Mutex // after Container.mu
	fd        int
	closed    bool
	container *Container // nil until attached
	devices   []*Device
}

// OpenGroup opens the group with that number. It can be open once, this process included.
//
// Errors: ErrNoIOMMU (no IOMMU is on, or the group is one that VFIO made up for a device without one),
// pci.ErrNoGroup, ErrNotBound (no member is bound to vfio-pci), ErrInUse, ErrPermission.
func OpenGroup(id int, opts Options) (*Group, error) {
	g := &Group{opts: opts, sys: opts.system(), id: id}
	node := opts.node(strconv.Itoa(id))
	var err error
	g.fd, err = g.sys.open(node)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return nil, g.missing(err)
	case errors.Is(err, unix.EBUSY):
		return nil, g.error("open", fmt.Errorf("%w: %w", ErrInUse, err), "a group can be open once: end the process that has it (fuser "+node+" names it), or open its other functions with Group.Device")
	case errors.Is(err, fs.ErrPermission):
		return nil, g.error("open", err, "run as root, or chown "+node+" to yourself")
	case err != nil:
		return nil, g.error("open", err, "")
	}
	return g, nil
}

// missing says why the group's node is not there.
func (g *Group) missing(err error) error {
	ids, gerr := g.opts.Sysfs.Groups()
	if gerr != nil {
		return g.error("open", errors.Join(err, gerr), "")
	}
	if len(ids) == 0 {
		return g.error("open", fmt.Errorf("%w: %w", ErrNoIOMMU, err), iommuRemedy)
	}
	if !slices.Contains(ids, g.id) {
		return g.error("open", fmt.Errorf("%w with this number", pci.ErrNoGroup), "`gommu devices` lists them")
	}
	pg, gerr := g.opts.Sysfs.Group(g.id)
	if gerr != nil {
		return g.error("open", errors.Join(err, gerr), "")
	}
	if pg.NoIOMMU() {
		return g.error("open", fmt.Errorf("%w: VFIO made the group up (vfio-noiommu), its devices can reach all memory", ErrNoIOMMU), iommuRemedy)
	}
	return g.error("open", fmt.Errorf("%w: %s: %w", ErrNotBound, describe(pg.Members), err), "bind the members to vfio-pci (pci.Bind, modprobe vfio-pci)")
}

// iommuRemedy is how an IOMMU is turned on.
const iommuRemedy = "enable VT-d in the firmware and boot with intel_iommu=on"

// ID is the group's number.
func (g *Group) ID() int { return g.id }

// Members asks sysfs for the group's functions.
func (g *Group) Members() ([]pci.Info, error) {
	pg, err := g.opts.Sysfs.Group(g.id)
	return pg.Members, err
}

// Viable reports whether the group can be attached: no driver of the kernel holds a member.
func (g *Group) Viable() (bool, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false, g.error("ask", ErrClosed, "")
	}
	st, err := g.status()
	return st&groupViable != 0, err
}

// status is the group's flags.
func (g *Group) status() (uint32, error) {
	st := groupStatus{argsz: uint32(sizeOf[groupStatus]())}
	if _, err := g.sys.ioctlPtr(g.fd, ioctlGroupGetStatus, bytesOf(&st)); err != nil {
		return 0, g.error("ask", err, "")
	}
	return st.flags, nil
}

// checkViable returns nil if the group can be attached.
func (g *Group) checkViable() error {
	st, err := g.status()
	switch {
	case err != nil:
		return err
	case st&groupViable == 0:
		return g.notViable(nil)
	case st&groupContainerSet != 0:
		return g.error("attach", ErrAttached, "")
	}
	return nil
}

// notViable names the members that stand in the way.
func (g *Group) notViable(errno error) error {
	err := ErrNotViable
	if errno != nil {
		err = fmt.Errorf("%w: %w", err, errno)
	}
	members, merr := g.Members()
	if merr != nil {
		return g.error("attach", errors.Join(err, merr), "")
	}
	var held []pci.Info
	for _, m := range members {
		if !harmless(m.Driver) {
			held = append(held, m)
		}
	}
	if len(held) == 0 {
		return g.error("attach", fmt.Errorf("%w: another user of its devices holds it (%s)", err, describe(members)), "")
	}
	return g.error("attach", fmt.Errorf("%w: %s", err, describe(held)), "bind every member of the group to vfio-pci, or unbind it from its driver")
}

// harmless reports whether a group stays viable with a member bound to that driver: those of VFIO, and the kernel's that
// declare that they start no DMA (driver_managed_dma).
func harmless(driver string) bool {
	switch driver {
	case "", "pci-stub", "pcieport":
		return true
	}
	return strings.HasPrefix(driver, "vfio") || strings.HasSuffix(driver, "-vfio-pci")
}

func describe(list []pci.Info) string {
	var s []string
	for _, i := range list {
		s = append(s, i.String())
	}
	return strings.Join(s, ", ")
}

// attachError names the cause of what VFIO_GROUP_SET_CONTAINER answered.
func (g *Group) attachError(err error) error {
	switch {
	case errors.Is(err, unix.EPERM):
		return g.notViable(err)
	case errors.Is(err, unix.EBUSY):
		return g.error("attach", fmt.Errorf("%w: %w", ErrInUse, err), "")
	case errors.Is(err, unix.EINVAL):
		return g.error("attach", err, "if the container has mappings, they may lie where this group's IOMMU cannot map: give the group a container of its own")
	}
	return g.error("attach", err, "")
}

// Close stops and closes the group's devices, then leaves the container and closes the group. Twice is harmless.
func (g *Group) Close() error {
	g.closing.Lock()
	defer g.closing.Unlock()
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return nil
	}
	g.closed = true // from here on no device is opened
	devices := slices.Clone(g.devices)
	g.mu.Unlock()

	var errs []error
	for _, d := range slices.Backward(devices) {
		errs = append(errs, d.close())
	}
	g.mu.Lock()
	c := g.container
	g.container = nil
	// The last file of the group takes it out of its container.
	if err := g.sys.close(g.fd); err != nil {
		errs = append(errs, g.error("close", err, ""))
	}
	g.mu.Unlock()
	if c != nil {
		c.drop(g)
	}
	return errors.Join(errs...)
}

func (g *Group) drop(d *Device) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.devices = slices.DeleteFunc(g.devices, func(x *Device) bool { return x == d })
}

func (g *Group) error(op string, err error, remedy string) error {
	return &OpError{Op: op, Target: "group " + strconv.Itoa(g.id), Err: err, Remedy: remedy}
}

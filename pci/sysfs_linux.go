package pci

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Sysfs finds PCI functions through the sysfs file system of Linux. The zero value is the
// machine's own.
type Sysfs struct {
	// Root is where sysfs is mounted; empty means /sys. Another root serves recorded
	// trees.
	Root string

	files files // what reaches the tree; nil means the operating system
}

// Info is what sysfs says of a function.
type Info struct {
	Address  Address `json:"address"`
	Vendor   uint16  `json:"vendor"`
	Device   uint16  `json:"device"`
	Class    uint32  `json:"class"` // 24 bits
	Revision uint8   `json:"revision"`

	SubsystemVendor uint16 `json:"subsystem_vendor"`
	SubsystemDevice uint16 `json:"subsystem_device"`

	Driver   string `json:"driver"`    // "" if none is bound
	Group    int    `json:"group"`     // IOMMU group, -1 if no IOMMU covers the function
	NUMANode int    `json:"numa_node"` // -1 if the machine does not say
}

// String is the address with the driver, for messages.
func (i Info) String() string {
	if i.Driver == "" {
		return i.Address.String() + " (no driver)"
	}
	return i.Address.String() + " (driver " + i.Driver + ")"
}

// Scan lists the machine's PCI functions by address.
func Scan() ([]Info, error) { return Sysfs{}.Scan() }

// Open opens a function of this machine. See [Sysfs.Open].
func Open(addr Address) (*SysfsFunction, error) { return Sysfs{}.Open(addr) }

// Bind binds a function of this machine to a driver. See [Sysfs.Bind].
func Bind(addr Address, driver string) (*Binding, error) { return Sysfs{}.Bind(addr, driver) }

// Scan lists the PCI functions by address. A function that goes away meanwhile is left out.
func (s Sysfs) Scan() ([]Info, error) {
	names, err := s.fs().readDir(s.path("bus/pci/devices"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &OpError{Op: "scan", Err: err, Remedy: "is sysfs mounted (mount -t sysfs sysfs /sys), and does this machine have a PCI bus?"}
	}
	if err != nil {
		return nil, &OpError{Op: "scan", Err: err}
	}
	var all []Info
	for _, n := range names {
		a, err := ParseAddress(n)
		if err != nil {
			return nil, &OpError{Op: "scan", Target: s.path("bus/pci/devices"), Err: err}
		}
		i, err := s.Info(a)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, i)
	}
	slices.SortFunc(all, func(a, b Info) int { return a.Address.Compare(b.Address) })
	return all, nil
}

// Info reads what sysfs says of one function, or ErrNotFound.
func (s Sysfs) Info(addr Address) (Info, error) {
	r := &attrs{s: s, dir: s.device(addr)}
	i := Info{
		Address:         addr,
		Vendor:          uint16(r.number("vendor", 16)),
		Device:          uint16(r.number("device", 16)),
		Class:           uint32(r.number("class", 32)),
		Revision:        uint8(r.number("revision", 8)),
		SubsystemVendor: uint16(r.number("subsystem_vendor", 16)),
		SubsystemDevice: uint16(r.number("subsystem_device", 16)),
		NUMANode:        r.node(),
		Driver:          r.link("driver"),
		Group:           -1,
	}
	if g := r.link("iommu_group"); g != "" && r.err == nil {
		i.Group, r.err = strconv.Atoi(g)
	}
	if r.err != nil {
		return Info{}, s.deviceError("read", addr, r.err)
	}
	return i, nil
}

// Resources describes the function's BARs as the kernel assigned them, without touching the
// function.
func (s Sysfs) Resources(addr Address) (bars [6]BARInfo, err error) {
	b, err := s.fs().readFile(path.Join(s.device(addr), "resource"))
	if err != nil {
		return bars, s.deviceError("read resources of", addr, err)
	}
	lines := strings.Split(string(b), "\n")
	for i := range min(6, len(lines)) {
		var start, end, flags uint64
		if _, err := fmt.Sscanf(lines[i], "0x%x 0x%x 0x%x", &start, &end, &flags); err != nil {
			return [6]BARInfo{}, s.deviceError("read resources of", addr, fmt.Errorf("line %d, %q: %w", i, lines[i], err))
		}
		// Flags are those of include/linux/ioport.h: IORESOURCE_IO, _PREFETCH, _MEM_64.
		if flags == 0 || end < start {
			continue
		}
		bars[i] = BARInfo{Base: start, Size: end - start + 1, IO: flags&0x100 != 0, Prefetchable: flags&0x2000 != 0, Is64: flags&0x100000 != 0}
	}
	return bars, nil
}

// deviceError is err as an error about a function: ErrNotFound if the function is not there.
func (s Sysfs) deviceError(op string, addr Address, err error) error {
	e := &OpError{Op: op, Target: addr.String(), Err: err}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, lerr := s.fs().readDir(s.device(addr)); errors.Is(lerr, fs.ErrNotExist) {
			e.Err, e.Remedy = ErrNotFound, "`gommu devices` lists them"
		}
	case errors.Is(err, fs.ErrPermission):
		e.Remedy = "run as root (or with CAP_SYS_ADMIN and the file made yours)"
	}
	return e
}

func (s Sysfs) path(rel string) string {
	if s.Root == "" {
		return path.Join("/sys", rel)
	}
	return path.Join(s.Root, rel)
}

func (s Sysfs) device(addr Address) string { return s.path("bus/pci/devices/" + addr.String()) }

func (s Sysfs) fs() files {
	if s.files != nil {
		return s.files
	}
	return osFiles{}
}

// attrs reads a device's attributes and keeps the first error.
type attrs struct {
	s   Sysfs
	dir string
	err error
}

func (r *attrs) text(name string) string {
	if r.err != nil {
		return ""
	}
	b, err := r.s.fs().readFile(path.Join(r.dir, name))
	if err != nil {
		r.err = err
	}
	return strings.TrimSpace(string(b))
}

func (r *attrs) number(name string, bits int) uint64 {
	t := r.text(name)
	if r.err != nil {
		return 0
	}
	v, err := strconv.ParseUint(t, 0, bits)
	if err != nil {
		r.err = fmt.Errorf("%s: %w", name, err)
	}
	return v
}

// node is the NUMA node, -1 if the kernel knows none; kernels without NUMA do not have the file.
func (r *attrs) node() int {
	if r.err != nil {
		return -1
	}
	t := r.text("numa_node")
	if errors.Is(r.err, fs.ErrNotExist) {
		r.err = nil
		return -1
	}
	if r.err != nil {
		return -1
	}
	v, err := strconv.Atoi(t)
	if err != nil {
		r.err = fmt.Errorf("numa_node: %w", err)
	}
	return v
}

// link is the last element of what a link points to, "" where there is no link.
func (r *attrs) link(name string) string {
	if r.err != nil {
		return ""
	}
	to, err := r.s.fs().readLink(path.Join(r.dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	if err != nil {
		r.err = err
		return ""
	}
	return path.Base(to)
}

package pci

import (
	"errors"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// A Group is an IOMMU group: the smallest set of functions that the IOMMU can tell from the rest.
// They are given to a user together or not at all.
type Group struct {
	ID      int
	Name    string // usually ""; "vfio-noiommu" for one without any IOMMU
	Members []Info // PCI functions, by address
	Others  int    // members that are not PCI functions
}

// NoIOMMU reports whether the group is one that VFIO made up for a device that no IOMMU covers.
func (g Group) NoIOMMU() bool { return g.Name == "vfio-noiommu" }

// GroupOf is the group of a function. Errors: ErrNotFound, and ErrNoGroup if no IOMMU covers it.
func (s Sysfs) GroupOf(addr Address) (Group, error) {
	i, err := s.Info(addr)
	if err != nil {
		return Group{}, err
	}
	if i.Group < 0 {
		return Group{}, &OpError{Op: "find group of", Target: addr.String(), Err: ErrNoGroup, Remedy: s.noGroupRemedy()}
	}
	return s.Group(i.Group)
}

// noGroupRemedy says what to do about a function without a group.
func (s Sysfs) noGroupRemedy() string {
	if ids, err := s.Groups(); err == nil && len(ids) > 0 {
		return "the IOMMU is on but does not cover this function (the DMAR table, or a bus that bypasses the IOMMU)"
	}
	return "the IOMMU is off: enable VT-d in the firmware and boot with intel_iommu=on"
}

// Group reads the group with that number.
func (s Sysfs) Group(id int) (Group, error) {
	dir := s.path("kernel/iommu_groups/" + strconv.Itoa(id))
	fail := func(err error) (Group, error) {
		return Group{}, &OpError{Op: "read IOMMU group", Target: strconv.Itoa(id), Err: err}
	}
	names, err := s.fs().readDir(path.Join(dir, "devices"))
	if err != nil {
		return fail(err)
	}
	g := Group{ID: id}
	name, err := s.fs().readFile(path.Join(dir, "name"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fail(err)
	}
	g.Name = strings.TrimSpace(string(name))
	for _, n := range names {
		a, err := ParseAddress(n)
		if err != nil {
			g.Others++
			continue
		}
		i, err := s.Info(a)
		if err != nil {
			return fail(err)
		}
		g.Members = append(g.Members, i)
	}
	slices.SortFunc(g.Members, func(a, b Info) int { return a.Address.Compare(b.Address) })
	return g, nil
}

// Groups lists the numbers of the machine's IOMMU groups. None means that no IOMMU is on.
func (s Sysfs) Groups() ([]int, error) {
	names, err := s.fs().readDir(s.path("kernel/iommu_groups"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // a kernel built without IOMMU support
	}
	if err != nil {
		return nil, &OpError{Op: "list IOMMU groups", Err: err}
	}
	var ids []int
	for _, n := range names {
		if id, err := strconv.Atoi(n); err == nil {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, nil
}

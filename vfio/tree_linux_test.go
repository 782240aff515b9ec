package vfio

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"gommu/pci"
)

var (
	edu     = pci.Address{Device: 3}
	second  = pci.Address{Device: 4}
	lonely  = pci.Address{Device: 31}             // in no group
	unbound = pci.Address{Device: 5}              // in group 5, driver e1000e
	sibling = pci.Address{Device: 3, Function: 1} // in the group of edu once it is added
)

// newTree is the sysfs tree that goes with newKernel: what OpenGroup and the error messages ask.
func newTree(t testing.TB) pci.Sysfs {
	s := pci.Sysfs{Root: t.TempDir()}
	addFunction(t, s, edu, "vfio-pci", 3)
	addFunction(t, s, second, "vfio-pci", 4)
	addFunction(t, s, unbound, "e1000e", 5)
	addFunction(t, s, lonely, "", -1)
	return s
}

func addFunction(t testing.TB, s pci.Sysfs, addr pci.Address, driver string, group int) {
	t.Helper()
	dir := filepath.Join(s.Root, "bus/pci/devices", addr.String())
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(os.MkdirAll(dir, 0o755))
	check(os.MkdirAll(filepath.Join(s.Root, "kernel/iommu_groups"), 0o755))
	for name, v := range map[string]string{"vendor": "0x1234", "device": "0x11e8", "class": "0x00ff00", "revision": "0x10", "subsystem_vendor": "0x1af4", "subsystem_device": "0x1100"} {
		check(os.WriteFile(filepath.Join(dir, name), []byte(v+"\n"), 0o644))
	}
	if driver != "" {
		check(os.Symlink("/somewhere/"+driver, filepath.Join(dir, "driver")))
	}
	if group >= 0 {
		g := filepath.Join(s.Root, "kernel/iommu_groups", strconv.Itoa(group))
		check(os.MkdirAll(filepath.Join(g, "devices"), 0o755))
		check(os.Symlink(g, filepath.Join(dir, "iommu_group")))
		check(os.Symlink(dir, filepath.Join(g, "devices", addr.String())))
	}
}

// setUp is a kernel and the options that lead to it.
func setUp(t testing.TB) (*fakeKernel, Options) {
	k := newKernel(t)
	return k, Options{Sysfs: newTree(t), sys: k}
}

// attached is a container with group 3 in it, closed when the test ends.
func attached(t testing.TB) (*fakeKernel, *Container, *Group) {
	t.Helper()
	k, opts := setUp(t)
	c, err := OpenContainer(opts)
	if err != nil {
		t.Fatal(err)
	}
	g, err := OpenGroup(3, opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Attach(g); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		k.checkEmpty()
	})
	return k, c, g
}

// opened is edu through Open, closed when the test ends.
func opened(t testing.TB) (*fakeKernel, *Device, *fakeDevice) {
	t.Helper()
	k, opts := setUp(t)
	d, err := Open(edu, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		k.checkEmpty()
	})
	return k, d, k.groups[3].devices[edu.String()]
}

func openFiles(t testing.TB) int {
	t.Helper()
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(d)
}

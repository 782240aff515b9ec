package vfio

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"gommu/pci"
)

// expect checks an error's cause, that it is an OpError, and what its text must say.
func expect(t *testing.T, name string, err, want error, texts ...string) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v; want %v", name, err, want)
		return
	}
	var op *OpError
	var pop *pci.OpError
	if !errors.As(err, &op) && !errors.As(err, &pop) {
		t.Errorf("%s: %T is no OpError", name, err)
	}
	for _, s := range texts {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("%s: %q does not say %q", name, err, s)
		}
	}
}

func TestOpenContainerErrors(t *testing.T) {
	tests := []struct {
		name string
		set  func(*fakeKernel)
		want error
		text string
	}{
		{"no node", func(k *fakeKernel) { k.openErr["vfio"] = syscall.ENOENT }, ErrNoVFIO, "modprobe vfio_iommu_type1 vfio-pci"},
		{"no module behind the node", func(k *fakeKernel) { k.openErr["vfio"] = syscall.ENODEV }, ErrNoVFIO, "modprobe"},
		{"no rights", func(k *fakeKernel) { k.openErr["vfio"] = syscall.EACCES }, ErrPermission, "root"},
		{"other", func(k *fakeKernel) { k.openErr["vfio"] = syscall.EMFILE }, unix.EMFILE, ""},
		{"version", func(k *fakeKernel) { k.version = 1 }, ErrVersion, "1, not 0"},
		{"type 1", func(k *fakeKernel) { k.type1 = 0 }, ErrNoType1, "modprobe vfio_iommu_type1"},
	}
	for _, tt := range tests {
		k, opts := setUp(t)
		tt.set(k)
		_, err := OpenContainer(opts)
		expect(t, tt.name, err, tt.want, tt.text)
		k.checkEmpty()
	}
}

func TestOpenGroupErrors(t *testing.T) {
	k, opts := setUp(t)
	_, err := OpenGroup(5, opts)
	expect(t, "member not bound", err, ErrNotBound, "0000:00:05.0 (driver e1000e)", "vfio-pci")
	_, err = OpenGroup(77, opts)
	expect(t, "no such group", err, pci.ErrNoGroup, "group 77", "gommu devices")

	g, err := OpenGroup(3, opts)
	if err != nil {
		t.Fatal(err)
	}
	_, err = OpenGroup(3, opts)
	expect(t, "in use", err, ErrInUse, "the process that has it", "fuser /dev/vfio/3", "Group.Device")
	if !errors.Is(err, unix.EBUSY) {
		t.Errorf("the errno is lost: %v", err)
	}
	for range 2 {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	}
	_, err = g.Viable()
	expect(t, "closed", err, ErrClosed)

	k.openErr["3"] = syscall.EACCES
	_, err = OpenGroup(3, opts)
	expect(t, "no rights", err, ErrPermission, "chown /dev/vfio/3")

	if err := os.WriteFile(filepath.Join(opts.Sysfs.Root, "kernel/iommu_groups/5/name"), []byte("vfio-noiommu\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = OpenGroup(5, opts)
	expect(t, "no-IOMMU group", err, ErrNoIOMMU, "vfio-noiommu", "intel_iommu=on")

	if err := os.RemoveAll(filepath.Join(opts.Sysfs.Root, "kernel/iommu_groups")); err != nil {
		t.Fatal(err)
	}
	_, err = OpenGroup(5, opts)
	expect(t, "IOMMU off", err, ErrNoIOMMU, "intel_iommu=on")
	k.checkEmpty()
}

func TestAttachErrors(t *testing.T) {
	k, opts := setUp(t)
	c, err := OpenContainer(opts)
	if err != nil {
		t.Fatal(err)
	}
	g, err := OpenGroup(3, opts)
	if err != nil {
		t.Fatal(err)
	}
	addFunction(t, opts.Sysfs, sibling, "snd_hda_intel", 3)
	k.groups[3].viable = false
	if ok, err := g.Viable(); ok || err != nil {
		t.Errorf("viable: %v, %v", ok, err)
	}
	err = c.Attach(g)
	expect(t, "not viable", err, ErrNotViable, "0000:00:03.1 (driver snd_hda_intel)", "vfio-pci")
	if strings.Contains(err.Error(), "03.0") {
		t.Errorf("%q names the function that is not in the way", err)
	}
	if err := os.Remove(filepath.Join(opts.Sysfs.Root, "bus/pci/devices", sibling.String(), "driver")); err != nil {
		t.Fatal(err)
	}
	expect(t, "not viable for no visible reason", c.Attach(g), ErrNotViable, "another user")
	k.groups[3].viable = true

	for errno, text := range map[syscall.Errno]string{unix.EPERM: "intremap=on", unix.ENODEV: ""} {
		k.setIOMMU = errno
		expect(t, "IOMMU type refused", c.Attach(g), errno, text)
		if k.groups[3].container != nil {
			t.Error("a group that could not be attached is attached")
		}
	}
	k.setIOMMU = 0
	for name, info := range map[string][]byte{"loop": cat(words(0, iommuInfoCaps), w64(0), words(24, 0), capHead(9, 1, 24)), "huge": make([]byte, maxAnswer+8)} {
		k.info = info
		expect(t, "info: "+name, c.Attach(g), ErrBadInfo)
	}
	k.info, k.growing = nil, true
	expect(t, "info: growing", c.Attach(g), ErrBadInfo, "growing")
	k.growing = false
	if err := c.Attach(g); err != nil {
		t.Fatal(err)
	}
	expect(t, "twice", c.Attach(g), ErrAttached)
	other, err := OpenContainer(opts)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "another container", other.Attach(g), ErrAttached)
	for range 2 {
		if err := errors.Join(other.Close(), c.Close()); err != nil {
			t.Error(err)
		}
	}
	expect(t, "closed", c.Attach(g), ErrClosed)
	k.checkEmpty()
}

func TestOrder(t *testing.T) {
	k, opts := setUp(t)
	c, err := OpenContainer(opts)
	if err != nil {
		t.Fatal(err)
	}
	g, err := OpenGroup(3, opts)
	if err != nil {
		t.Fatal(err)
	}
	mem := pages(t, 1)
	try := func(want error) {
		t.Helper()
		expect(t, "map", c.MapDMA(0, mem, DMARead), want)
		expect(t, "unmap", c.UnmapDMA(0, 4096), want)
		_, err := c.UnmapAll()
		expect(t, "unmap all", err, want)
		_, err = c.Info()
		expect(t, "info", err, want)
	}
	n := k.n
	try(ErrNotAttached)
	_, err = g.Device(edu)
	expect(t, "device", err, ErrNotAttached, "attach group 3")
	if k.n != n {
		t.Error("calls out of order reached the kernel")
	}
	if err := c.Attach(g); err != nil {
		t.Fatal(err)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	try(ErrNotAttached) // the last group is gone
	_, err = g.Device(edu)
	expect(t, "device of a closed group", err, ErrClosed)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	try(ErrClosed)
	k.checkEmpty()
}

func TestContainerInfo(t *testing.T) {
	_, c, g := attached(t)
	got, err := c.Info()
	if err != nil {
		t.Fatal(err)
	}
	want := IOMMUInfo{PageSizes: 0x40201000, Ranges: []IOVARange{{0, 0xfedfffff}, {0xfef00000, 1<<48 - 1}}, Entries: 8}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if m, err := g.Members(); err != nil || len(m) != 1 || m[0].Address != edu || g.ID() != 3 {
		t.Errorf("members of group %d: %v, %v", g.ID(), m, err)
	}
}

func TestTwoGroups(t *testing.T) {
	k, c, g := attached(t)
	g4, err := OpenGroup(4, c.opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Attach(g4); err != nil {
		t.Fatal(err)
	}
	mem := pages(t, 1)
	if err := c.MapDMA(0, mem, DMARead); err != nil {
		t.Fatal(err)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	// The mappings live as long as one group is attached.
	if err := c.UnmapDMA(0, 4096); err != nil {
		t.Error(err)
	}
	if k.locked != 0 {
		t.Errorf("%d bytes still locked", k.locked)
	}
}

// TestAttachConflict: the kernel refuses a second group whose IOMMU cannot take the container's mappings.
func TestAttachConflict(t *testing.T) {
	k, c, _ := attached(t)
	g4, err := OpenGroup(4, c.opts)
	if err != nil {
		t.Fatal(err)
	}
	k.failAt, k.fail = k.n+2, unix.EINVAL // the status, then SET_CONTAINER
	err = c.Attach(g4)
	k.failAt = 0
	expect(t, "conflict", err, unix.EINVAL, "container of its own")
	if errors.Is(err, ErrAttached) {
		t.Errorf("%v: the group is not attached", err)
	}
	if err := g4.Close(); err != nil {
		t.Error(err)
	}
}

// A closingKernel does something when the first file is closed.
type closingKernel struct {
	*fakeKernel
	meanwhile func()
}

func (k *closingKernel) close(fd int) error {
	if f := k.meanwhile; f != nil {
		k.meanwhile = nil
		f()
	}
	return k.fakeKernel.close(fd)
}

// TestCloseMeanwhile: what comes while an owner closes what it owns is refused, not left behind. The fake kernel objects
// to a container that is closed before its groups and a group that is closed before its devices.
func TestCloseMeanwhile(t *testing.T) {
	fake, opts := setUp(t)
	fake.groups[3].devices[sibling.String()] = newFakeDevice(fake.groups[3])
	k := &closingKernel{fakeKernel: fake}
	opts.sys = k
	d, err := Open(edu, opts)
	if err != nil {
		t.Fatal(err)
	}
	c, g := d.Container(), d.Group()
	g4, err := OpenGroup(4, opts)
	if err != nil {
		t.Fatal(err)
	}
	k.meanwhile = func() {
		expect(t, "attaching a group", c.Attach(g4), ErrClosed)
		_, err := g.Device(sibling)
		expect(t, "opening a device", err, ErrClosed)
	}
	if err := errors.Join(c.Close(), g4.Close()); err != nil {
		t.Error(err)
	}
	if k.meanwhile != nil {
		t.Error("nothing was closed")
	}
	fake.checkEmpty()
}

func TestDeviceErrors(t *testing.T) {
	k, c, g := attached(t)
	addFunction(t, c.opts.Sysfs, sibling, "e1000e", 3)
	_, err := g.Device(sibling)
	expect(t, "not bound", err, ErrNotBound, "0000:00:03.1 (driver e1000e)")
	_, err = g.Device(second)
	expect(t, "in another group", err, unix.ENODEV, "group 4")
	_, err = g.Device(pci.Address{Device: 9})
	expect(t, "not there", err, pci.ErrNotFound)
	d := k.groups[3].devices[edu.String()]
	d.flags = deviceFlagReset
	_, err = g.Device(edu)
	expect(t, "not PCI", err, ErrNotPCI)
	d.flags |= deviceFlagPCI
	d.regions[7].answer = cat(words(0, regionRead, 7, 0), w64(64, 7<<40))
	_, err = g.Device(edu)
	expect(t, "small configuration space", err, ErrBadInfo)
}

func TestOpenErrors(t *testing.T) {
	k, opts := setUp(t)
	_, err := Open(pci.Address{Device: 9}, opts)
	expect(t, "not there", err, pci.ErrNotFound)
	_, err = Open(lonely, opts)
	expect(t, "no group", err, pci.ErrNoGroup, "0000:00:1f.0", "does not cover")
	_, err = Open(unbound, opts)
	expect(t, "not bound", err, ErrNotBound, "e1000e")
	k.groups[3].viable = false
	_, err = Open(edu, opts)
	expect(t, "not viable", err, ErrNotViable)
	if err := os.RemoveAll(filepath.Join(opts.Sysfs.Root, "kernel/iommu_groups")); err != nil {
		t.Fatal(err)
	}
	_, err = Open(lonely, opts)
	expect(t, "IOMMU off", err, ErrNoIOMMU, "0000:00:1f.0", "intel_iommu=on")
	k.checkEmpty()
}

// TestFailures fails every system call of a whole life of a device. The errno must come out, and nothing may be left.
func TestFailures(t *testing.T) {
	life := func(opts Options) (err error) {
		d, err := Open(edu, opts)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, d.Close(), d.Close()) }()
		c := d.Container()
		mem := pages(t, 2)
		if err := c.MapDMA(0x10000, mem, DMARead|DMAWrite); err != nil {
			return err
		}
		if _, err := c.Info(); err != nil {
			return err
		}
		for _, i := range []int{0, 2, 4} {
			if _, err := d.BAR(i); err != nil {
				return err
			}
		}
		if _, err := pci.SetBusMaster(d.Config(), true); err != nil {
			return err
		}
		irqs, err := d.EnableIRQ(MSI, 2)
		if err != nil {
			return err
		}
		if err := irqs[1].Trigger(); err != nil {
			return err
		}
		if err := irqs[1].Wait(t.Context()); err != nil {
			return err
		}
		if err := d.DisableIRQ(MSI); err != nil {
			return err
		}
		if _, err := d.EnableIRQ(INTx, 1); err != nil {
			return err
		}
		if err := d.Reset(); err != nil {
			return err
		}
		if err := c.UnmapDMA(0x10000, 8192); err != nil {
			return err
		}
		_, err = c.UnmapAll()
		return err
	}
	k, opts := setUp(t)
	if err := life(opts); err != nil {
		t.Fatal(err)
	}
	k.checkEmpty()
	fds := openFiles(t)
	total := k.n
	if total < 50 {
		t.Fatalf("%d system calls only", total)
	}
	for n := 1; n <= total; n++ {
		k := newKernel(t)
		k.failAt, k.fail = n, unix.EIO
		err := life(Options{Sysfs: opts.Sysfs, sys: k})
		if !errors.Is(err, unix.EIO) {
			t.Errorf("call %d of %d failed: %v", n, total, err)
		}
		var op *OpError
		if !errors.As(err, &op) {
			t.Errorf("call %d of %d failed: %T is no OpError", n, total, err)
		}
		k.checkEmpty()
		if got := openFiles(t); got != fds {
			t.Fatalf("call %d of %d failed: %d files left", n, total, got-fds)
		}
	}
}

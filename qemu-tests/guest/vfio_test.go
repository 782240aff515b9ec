//go:build linux

package guest

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gommu/internal/held"
	"gommu/pci"
	"gommu/qemu-tests/vm/guest"
	"gommu/vfio"
)

// Registers of QEMU's edu device (docs/specs/edu.rst).
const (
	eduVendor, eduDevice = 0x1234, 0x11e8

	eduID, eduLiveness, eduRaise, eduAck = 0x00, 0x04, 0x60, 0x64
	eduSource, eduTarget, eduCount       = 0x80, 0x88, 0x90
	eduCommand                           = 0x98 // bit 0 run, bit 1 to memory, bit 2 interrupt
	eduBuffer                            = 0x40000
)

// vfioDevices is what these tests want; those that need more than the first device and module skip without it.
const vfioDevices = `modules vfio-pci and vfio_iommu_type1; devices "edu,addr=0x3,dma_mask=0xffffffffffffffff"; for more of them module e1000 and devices ` +
	`"pcie-root-port,id=rp,addr=0x4", "e1000,addr=0x5,romfile=", "pcie-pci-bridge,id=pb,addr=0x6", "edu,bus=pb,addr=0x1", "e1000,bus=pb,addr=0x2,romfile=", ` +
	`"rtl8139,mac=02:11:22:33:44:55,addr=0x8,romfile=", "nvme,drive=null,serial=gommu,addr=0x7" with the QEMU arguments -blockdev null-co,node-name=null,size=1048576`

// needIOMMU skips a test in a guest without IOMMU groups.
func needIOMMU(t *testing.T) {
	t.Helper()
	guest.SkipUnlessInside(t)
	ids, err := pci.Sysfs{}.Groups()
	if err != nil {
		t.Fatal(err)
	}
	if len(ids) == 0 {
		t.Skip("this guest has no IOMMU: boot it with intel_iommu=on and vm.Machine.IOMMU other than \"off\"")
	}
}

// findEdu is an edu device, alone in its group or with siblings that a driver holds.
func findEdu(t *testing.T, alone bool) (pci.Info, pci.Group) {
	t.Helper()
	needIOMMU(t)
	all, err := pci.Scan()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range all {
		if i.Vendor != eduVendor || i.Device != eduDevice || i.Group < 0 {
			continue
		}
		g, err := pci.Sysfs{}.GroupOf(i.Address)
		if err != nil {
			t.Fatal(err)
		}
		held := slices.ContainsFunc(g.Members, func(m pci.Info) bool { return m.Driver == "e1000" })
		if alone && len(g.Members) == 1 || !alone && held {
			return i, g
		}
	}
	t.Skipf("no edu device with an IOMMU group of this kind (alone: %v) in this guest: boot it with %s", alone, vfioDevices)
	return pci.Info{}, pci.Group{}
}

// findFunction is the first function that is so.
func findFunction(t *testing.T, name string, is func(pci.Info) bool) pci.Info {
	t.Helper()
	needIOMMU(t)
	all, err := pci.Scan()
	if err != nil {
		t.Fatal(err)
	}
	n := slices.IndexFunc(all, is)
	if n < 0 {
		t.Skipf("no %s in this guest: boot it with %s", name, vfioDevices)
	}
	return all[n]
}

// bound is an edu device that is alone in its group and bound to vfio-pci until the test ends. After that, files and mappings
// must be as before.
func bound(t *testing.T) pci.Info {
	t.Helper()
	i, _ := findEdu(t, true)
	bind(t, i)
	return i
}

// bind binds a function that is alone in its group to vfio-pci until the test ends, with bound's checks.
func bind(t *testing.T, i pci.Info) {
	t.Helper()
	before := held.Now(t)
	b, err := pci.Bind(i.Address, pci.VFIODriver)
	if errors.Is(err, pci.ErrNoDriver) {
		t.Skipf("%v: boot this guest with %s", err, vfioDevices)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Undo(); err != nil {
			t.Error(err)
		}
		if now, err := (pci.Sysfs{}).Info(i.Address); err != nil || now != i {
			t.Errorf("after the test: %+v, %v; want %+v", now, err, i)
		}
		held.Check(t, before)
	})
}

// opened is the edu device with a container of its own, closed before bound's checks.
func opened(t *testing.T) *vfio.Device {
	t.Helper()
	return open(t, bound(t))
}

func open(t *testing.T, i pci.Info) *vfio.Device {
	t.Helper()
	d, err := vfio.Open(i.Address, vfio.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 2 {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return d
}

func vfioMaps(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(b), "vfio-device")
}

// want checks an error's cause and that its text says what it must.
func want(t *testing.T, what string, err, cause error, texts ...string) {
	t.Helper()
	if !errors.Is(err, cause) {
		t.Errorf("%s: %v; want %v", what, err, cause)
		return
	}
	for _, s := range texts {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("%s: %q does not say %q", what, err, s)
		}
	}
}

func TestVFIOBind(t *testing.T) {
	i := bound(t)
	now, err := pci.Sysfs{}.Info(i.Address)
	if err != nil || now.Driver != pci.VFIODriver || now.Group != i.Group {
		t.Errorf("%+v, %v", now, err)
	}
	again, err := pci.Bind(i.Address, pci.VFIODriver)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Undo(); err != nil {
		t.Error(err)
	}
	if now, _ := (pci.Sysfs{}).Info(i.Address); now.Driver != pci.VFIODriver {
		t.Error("the undo of a binding that changed nothing unbound the function")
	}
}

// TestVFIOBindFormerDriver takes a network card from its driver and gives it back.
func TestVFIOBindFormerDriver(t *testing.T) {
	i := findFunction(t, "function with the driver e1000", func(i pci.Info) bool { return i.Driver == "e1000" })
	b, err := pci.Bind(i.Address, pci.VFIODriver)
	if err != nil {
		t.Fatal(err)
	}
	if now, err := (pci.Sysfs{}).Info(i.Address); err != nil || now.Driver != pci.VFIODriver || b.Former() != "e1000" {
		t.Errorf("driver %q, former %q, %v", now.Driver, b.Former(), err)
	}
	if err := b.Undo(); err != nil {
		t.Fatal(err)
	}
	if now, err := (pci.Sysfs{}).Info(i.Address); err != nil || now != i {
		t.Errorf("after undo %+v, %v; want %+v", now, err, i)
	}
}

// TestVFIOBindRefused: vfio-pci does not take a bridge, which must have its driver back.
func TestVFIOBindRefused(t *testing.T) {
	i := findFunction(t, "bridge with the driver pcieport", func(i pci.Info) bool { return i.Driver == "pcieport" })
	_, err := pci.Bind(i.Address, pci.VFIODriver)
	want(t, "binding a bridge", err, unix.EINVAL, i.Address.String(), "ordinary header")
	override, rerr := os.ReadFile("/sys/bus/pci/devices/" + i.Address.String() + "/driver_override")
	if now, err := (pci.Sysfs{}).Info(i.Address); err != nil || now != i || rerr != nil || string(override) != "(null)\n" {
		t.Errorf("afterwards %+v, %v, override %q, %v", now, err, override, rerr)
	}
}

func TestVFIOOpenErrors(t *testing.T) {
	i, _ := findEdu(t, true)
	_, err := vfio.Open(i.Address, vfio.Options{})
	want(t, "not bound", err, vfio.ErrNotBound, i.Address.String(), "vfio-pci")
	_, err = vfio.Open(pci.Address{Bus: 0xee}, vfio.Options{})
	want(t, "not there", err, pci.ErrNotFound, "gommu devices")
	_, err = vfio.OpenGroup(12345, vfio.Options{})
	want(t, "no such group", err, pci.ErrNoGroup, "gommu devices")
	_, err = vfio.OpenContainer(vfio.Options{Dev: t.TempDir()})
	want(t, "no VFIO", err, vfio.ErrNoVFIO, "modprobe")
}

// TestVFIONoIOMMU is for a guest without a unit (vm.Machine.IOMMU "off").
func TestVFIONoIOMMU(t *testing.T) {
	guest.SkipUnlessInside(t)
	ids, err := pci.Sysfs{}.Groups()
	if err != nil {
		t.Fatal(err)
	}
	if len(ids) > 0 {
		t.Skip(`this guest has an IOMMU: boot one with vm.Machine.IOMMU "off"`)
	}
	all, err := pci.Scan()
	if err != nil || len(all) == 0 {
		t.Fatalf("%d functions, %v", len(all), err)
	}
	for _, i := range all {
		_, err := pci.Bind(i.Address, pci.VFIODriver)
		want(t, "binding", err, pci.ErrNoGroup, "intel_iommu=on")
		_, err = vfio.Open(i.Address, vfio.Options{})
		want(t, "opening", err, vfio.ErrNoIOMMU, "intel_iommu=on")
		if now, err := (pci.Sysfs{}).Info(i.Address); err != nil || now != i {
			t.Errorf("afterwards %+v, %v; want %+v", now, err, i)
		}
	}
	_, err = vfio.OpenGroup(0, vfio.Options{})
	want(t, "group", err, vfio.ErrNoIOMMU, "intel_iommu=on")
}

func TestVFIONotViable(t *testing.T) {
	i, g := findEdu(t, false)
	b, err := pci.Bind(i.Address, pci.VFIODriver)
	if err != nil {
		t.Fatal(err)
	}
	n := slices.IndexFunc(g.Members, func(m pci.Info) bool { return m.Driver == "e1000" })
	_, err = vfio.Open(i.Address, vfio.Options{})
	want(t, "sibling with a driver", err, vfio.ErrNotViable, g.Members[n].Address.String()+" (driver e1000)")

	sib, err := pci.Bind(g.Members[n].Address, pci.VFIODriver)
	if err != nil {
		t.Fatal(err)
	}
	d, err := vfio.Open(i.Address, vfio.Options{})
	if err != nil {
		t.Fatalf("all members bound: %v", err)
	}
	if err := errors.Join(d.Close(), sib.Undo(), b.Undo()); err != nil {
		t.Error(err)
	}
}

func TestVFIOOrder(t *testing.T) {
	i := bound(t)
	c, err := vfio.OpenContainer(vfio.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	mem := pages(t, 1)
	want(t, "map before attaching", c.MapDMA(0, mem, vfio.DMARead), vfio.ErrNotAttached)
	want(t, "unmap before attaching", c.UnmapDMA(0, 4096), vfio.ErrNotAttached)
	g, err := vfio.OpenGroup(i.Group, vfio.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if ok, err := g.Viable(); !ok || err != nil {
		t.Errorf("viable: %v, %v", ok, err)
	}
	_, err = g.Device(i.Address)
	want(t, "device before attaching", err, vfio.ErrNotAttached)
	_, err = vfio.OpenGroup(i.Group, vfio.Options{})
	want(t, "group open already", err, vfio.ErrInUse)
	want(t, "the same", err, unix.EBUSY)
	if err := c.Attach(g); err != nil {
		t.Fatal(err)
	}
	want(t, "attach twice", c.Attach(g), vfio.ErrAttached)
	_, err = g.Device(pci.Address{Bus: 0xee})
	want(t, "device of another group", err, pci.ErrNotFound)
	if err := errors.Join(c.MapDMA(0, mem, vfio.DMARead), c.Close(), c.Close()); err != nil {
		t.Error(err)
	}
	want(t, "map after closing", c.MapDMA(0, mem, vfio.DMARead), vfio.ErrClosed)
}

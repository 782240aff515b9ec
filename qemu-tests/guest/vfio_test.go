package guest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

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
	`"pcie-root-port,id=rp,addr=0x4", "e1000,addr=0x5,romfile=", "pcie-pci-bridge,id=pb,addr=0x6", "edu,bus=pb,addr=0x1", "e1000,bus=pb,addr=0x2,romfile="`

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

// bound is an edu device that is alone in its group and bound to vfio-pci until the test ends. After that, files and mappings
// must be as before.
func bound(t *testing.T) pci.Info {
	t.Helper()
	i, _ := findEdu(t, true)
	fds, maps := openFiles(t), vfioMaps(t)
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
		if f, m := openFiles(t), vfioMaps(t); f != fds || m != maps {
			t.Errorf("after the test %d files are open, %d before; %d VFIO mappings, %d before", f, fds, m, maps)
		}
	})
	return i
}

// opened is a device with a container of its own, closed before bound's checks.
func opened(t *testing.T) *vfio.Device {
	t.Helper()
	d, err := vfio.Open(bound(t).Address, vfio.Options{})
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

func pages(t *testing.T, n int) []byte {
	t.Helper()
	mem, err := unix.Mmap(-1, 0, n*4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANONYMOUS|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Munmap(mem); err != nil {
			t.Error(err)
		}
	})
	return mem
}

func openFiles(t *testing.T) int {
	t.Helper()
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(d)
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
	needIOMMU(t)
	all, err := pci.Scan()
	if err != nil {
		t.Fatal(err)
	}
	n := slices.IndexFunc(all, func(i pci.Info) bool { return i.Driver == "e1000" })
	if n < 0 {
		t.Skipf("no function with the driver e1000: boot this guest with %s", vfioDevices)
	}
	b, err := pci.Bind(all[n].Address, pci.VFIODriver)
	if err != nil {
		t.Fatal(err)
	}
	if now, err := (pci.Sysfs{}).Info(all[n].Address); err != nil || now.Driver != pci.VFIODriver || b.Former() != "e1000" {
		t.Errorf("driver %q, former %q, %v", now.Driver, b.Former(), err)
	}
	if err := b.Undo(); err != nil {
		t.Fatal(err)
	}
	if now, err := (pci.Sysfs{}).Info(all[n].Address); err != nil || now != all[n] {
		t.Errorf("after undo %+v, %v; want %+v", now, err, all[n])
	}
}

// TestVFIOBindRefused: vfio-pci does not take a bridge, which must have its driver back.
func TestVFIOBindRefused(t *testing.T) {
	needIOMMU(t)
	all, err := pci.Scan()
	if err != nil {
		t.Fatal(err)
	}
	n := slices.IndexFunc(all, func(i pci.Info) bool { return i.Driver == "pcieport" })
	if n < 0 {
		t.Skipf("no bridge with the driver pcieport: boot this guest with %s", vfioDevices)
	}
	_, err = pci.Bind(all[n].Address, pci.VFIODriver)
	want(t, "binding a bridge", err, unix.EINVAL, all[n].Address.String(), "ordinary header")
	override, rerr := os.ReadFile("/sys/bus/pci/devices/" + all[n].Address.String() + "/driver_override")
	if now, err := (pci.Sysfs{}).Info(all[n].Address); err != nil || now != all[n] || rerr != nil || string(override) != "(null)\n" {
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

func TestVFIOInfo(t *testing.T) {
	c := opened(t).Container()
	i, err := c.Info()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("page sizes %#x, ranges %v, entries %d", i.PageSizes, i.Ranges, i.Entries)
	if i.PageSize() != 4096 || i.Entries <= 0 {
		t.Errorf("%+v", i)
	}
	// The interrupt range is reserved on x86; the unit of vm's machines is 48 bits wide.
	wanted := []vfio.IOVARange{{Start: 0, Last: 0xfedfffff}, {Start: 0xfef00000, Last: 1<<48 - 1}}
	if !slices.Equal(i.Ranges, wanted) {
		t.Errorf("ranges %v, want %v", i.Ranges, wanted)
	}
	mem := pages(t, 1)
	if err := c.MapDMA(0, mem, vfio.DMARead); err != nil {
		t.Fatal(err)
	}
	if j, err := c.Info(); err != nil || j.Entries != i.Entries-1 {
		t.Errorf("%d entries after a mapping, %d before, %v", j.Entries, i.Entries, err)
	}
}

func TestVFIOMapErrors(t *testing.T) {
	c := opened(t).Container()
	mem := pages(t, 4)
	if err := c.MapDMA(0x10000, mem, vfio.DMARead|vfio.DMAWrite); err != nil {
		t.Fatal(err)
	}
	for _, iova := range []uint64{0xf000, 0x10000, 0x12000} {
		err := c.MapDMA(iova, mem[:8192], vfio.DMARead)
		want(t, "overlap", err, vfio.ErrOverlap, fmt.Sprintf("%#x", iova))
		want(t, "overlap", err, unix.EEXIST)
	}
	want(t, "interrupt range", c.MapDMA(0xfee00000, mem, vfio.DMARead), vfio.ErrOutsideIOVA)
	want(t, "too wide", c.MapDMA(1<<48, mem, vfio.DMARead), vfio.ErrOutsideIOVA, "0xffffffffffff")
	want(t, "empty", c.MapDMA(0x20000, nil, vfio.DMARead), vfio.ErrBadRange)
	want(t, "misaligned", c.MapDMA(0x20800, mem, vfio.DMARead), vfio.ErrMisaligned)
	want(t, "no rights", c.MapDMA(0x20000, mem, 0), vfio.ErrBadProt)

	readOnly, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ, unix.MAP_ANONYMOUS|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(readOnly)
	want(t, "memory that cannot be written", c.MapDMA(0x20000, readOnly, vfio.DMAWrite), unix.EFAULT, "writable")
	if err := c.MapDMA(0x20000, readOnly, vfio.DMARead); err != nil {
		t.Errorf("the same for reading: %v", err)
	}

	want(t, "cut at the start", c.UnmapDMA(0x10000, 0x1000), vfio.ErrBisect)
	want(t, "cut at the end", c.UnmapDMA(0xf000, 0x2000), vfio.ErrBisect)
	want(t, "nothing mapped", c.UnmapDMA(0x40000, 0x1000), vfio.ErrNotMapped)
	want(t, "short", c.UnmapDMA(0x10000, 0x8000), vfio.ErrShortUnmap, "0x4000")
	if n, err := c.UnmapAll(); err != nil || n != 4096 {
		t.Errorf("unmap all: %d bytes, %v", n, err)
	}
}

// TestVFIOMapRandom maps and unmaps at random and compares every outcome with a plain list of what is mapped.
func TestVFIOMapRandom(t *testing.T) {
	c := opened(t).Container()
	mem := pages(t, 8)
	rnd := mrand.New(mrand.NewPCG(1, 2))
	type span struct{ first, n int } // in pages
	var mapped []span
	bases := []uint64{0, 0xfee00000 - 32<<12, 1<<48 - 32<<12} // 32 pages each, the last ones up to a limit
	for step := range 1500 {
		base := bases[rnd.IntN(len(bases))]
		s := span{int(base>>12) + rnd.IntN(24), 1 + rnd.IntN(8)}
		iova, size := uint64(s.first)<<12, uint64(s.n)<<12
		if rnd.IntN(2) == 0 {
			var expect error
			for _, m := range mapped {
				if s.first < m.first+m.n && m.first < s.first+s.n {
					expect = vfio.ErrOverlap
				}
			}
			if err := c.MapDMA(iova, mem[:size], vfio.DMARead); !errors.Is(err, expect) {
				t.Fatalf("step %d: map %v: %v; want %v", step, s, err, expect)
			}
			if expect == nil {
				mapped = append(mapped, s)
			}
			continue
		}
		inside, cut := 0, false
		for _, m := range mapped {
			if s.first >= m.first+m.n || m.first >= s.first+s.n {
				continue
			}
			cut = cut || m.first < s.first || m.first+m.n > s.first+s.n
			inside += m.n
		}
		var expect error
		switch {
		case cut:
			expect = vfio.ErrBisect
		case inside == 0:
			expect = vfio.ErrNotMapped
		case inside < s.n:
			expect = vfio.ErrShortUnmap
		}
		if err := c.UnmapDMA(iova, size); !errors.Is(err, expect) {
			t.Fatalf("step %d: unmap %v: %v; want %v", step, s, err, expect)
		}
		if !cut {
			mapped = slices.DeleteFunc(mapped, func(m span) bool { return m.first >= s.first && m.first+m.n <= s.first+s.n })
		}
	}
	var left uint64
	for _, m := range mapped {
		left += uint64(m.n) << 12
	}
	if n, err := c.UnmapAll(); err != nil || n != left {
		t.Errorf("unmap all: %#x bytes, %v; want %#x", n, err, left)
	}
}

func TestVFIOEntryLimit(t *testing.T) {
	i := bound(t)
	const param = "/sys/module/vfio_iommu_type1/parameters/dma_entry_limit"
	former, err := os.ReadFile(param)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(param, []byte("3"), 0); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := os.WriteFile(param, former, 0); err != nil {
			t.Error(err)
		}
	}()
	d, err := vfio.Open(i.Address, vfio.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	c, mem := d.Container(), pages(t, 1)
	for n := range uint64(3) {
		if info, err := c.Info(); err != nil || info.Entries != int(3-n) {
			t.Errorf("%d entries, %v; want %d", info.Entries, err, 3-n)
		}
		if err := c.MapDMA(n<<12, mem, vfio.DMARead); err != nil {
			t.Fatal(err)
		}
	}
	err = c.MapDMA(3<<12, mem, vfio.DMARead)
	want(t, "fourth of three", err, vfio.ErrEntryLimit, "dma_entry_limit")
	want(t, "fourth of three", err, unix.ENOSPC)
	if err := errors.Join(c.UnmapDMA(0, 4096), c.MapDMA(3<<12, mem, vfio.DMARead)); err != nil {
		t.Errorf("an entry that came back: %v", err)
	}
}

// without runs f on a thread that lacks a capability. The thread ends with it.
func without(t *testing.T, capability int, f func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the runtime ends the thread
		head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		err := unix.Capget(&head, &data[0])
		data[capability/32].Effective &^= 1 << (capability % 32)
		if err == nil {
			err = unix.Capset(&head, &data[0])
		}
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestVFIOMemlock(t *testing.T) {
	c := opened(t).Container()
	var former unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &former); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: 64 << 10, Max: former.Max}); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_MEMLOCK, &former)
	mem := pages(t, 64)
	for i := range mem {
		mem[i] = 1 // pages of their own, not the zero page: that one is not counted
	}
	without(t, unix.CAP_IPC_LOCK, func() {
		if err := c.MapDMA(0, mem[:32<<10], vfio.DMARead); err != nil {
			t.Errorf("half of the limit: %v", err)
		}
		err := c.MapDMA(1<<20, mem, vfio.DMARead)
		want(t, "over the limit", err, vfio.ErrMemlock, "32 KiB are locked of a limit of 64 KiB", "256 KiB more", "ulimit -l")
		want(t, "over the limit", err, unix.ENOMEM)
	})
	want(t, "what failed left nothing", c.UnmapDMA(1<<20, uint64(len(mem))), vfio.ErrNotMapped)
}

func TestVFIOPermission(t *testing.T) {
	i := bound(t)
	node := fmt.Sprintf("/dev/vfio/%d", i.Group)
	if err := os.Chmod(node, 0); err != nil {
		t.Fatal(err)
	}
	without(t, unix.CAP_DAC_OVERRIDE, func() {
		_, err := vfio.Open(i.Address, vfio.Options{})
		want(t, "a node that others own", err, vfio.ErrPermission, "chown "+node)
	})
}

func TestVFIODevice(t *testing.T) {
	d := opened(t)
	id, err := pci.ReadIDs(d.Config())
	if err != nil || id.Vendor != eduVendor || id.Device != eduDevice || d.Config().Size() != pci.ConfigSize {
		t.Errorf("ids %+v, %d bytes of config, %v", id, d.Config().Size(), err)
	}
	caps, err := pci.Capabilities(d.Config())
	if err != nil || !slices.ContainsFunc(caps, func(c pci.Capability) bool { return c.ID == pci.CapMSI }) {
		t.Errorf("capabilities %v, %v; want MSI among them", caps, err)
	}
	if n, err := d.Regions(); err != nil || n < 9 {
		t.Errorf("%d regions, %v", n, err)
	}
	r, err := d.Region(0)
	if err != nil || r.Size != 1<<20 || !r.Readable || !r.Writable || !r.Mapable {
		t.Errorf("region 0: %+v, %v", r, err)
	}
	b, err := d.BAR(0)
	if err != nil {
		t.Fatal(err)
	}
	if v := b.Read32(eduID); v&0xff != 0xed || b.Size() != 1<<20 {
		t.Errorf("identification %#x, size %#x", v, b.Size())
	}
	b.Write32(eduLiveness, 0x12345678)
	if v := b.Read32(eduLiveness); v != ^uint32(0x12345678) {
		t.Errorf("liveness %#x, want the inverse of 0x12345678", v)
	}
	b.Write64(eduSource, 0x1122334455667788)
	if v := b.Read64(eduSource); v != 0x1122334455667788 {
		t.Errorf("64 bits come back as %#x", v)
	}
	if vfioMaps(t) == 0 {
		t.Error("the BAR is not mapped")
	}
	for i := 1; i < 6; i++ {
		_, err := d.BAR(i)
		want(t, "BAR that is not there", err, pci.ErrNoBAR)
	}
	was, err := pci.SetBusMaster(d.Config(), true)
	if err != nil || was {
		t.Errorf("bus master was %v, %v", was, err)
	}
	bars, err := pci.ProbeBARs(d.Config())
	if err != nil || bars[0].Size != 1<<20 {
		t.Errorf("probed BARs %+v, %v", bars, err)
	}
	if v := b.Read32(eduID); v&0xff != 0xed {
		t.Errorf("identification %#x after probing", v)
	}
}

func TestVFIOReset(t *testing.T) {
	d := opened(t)
	b, err := d.BAR(0)
	if err != nil {
		t.Fatal(err)
	}
	// QEMU's edu has neither a function level reset nor a bus of its own.
	if err := d.Reset(); d.CanReset() && err != nil || !d.CanReset() && !errors.Is(err, pci.ErrNoReset) {
		t.Errorf("can reset: %v; %v", d.CanReset(), err)
	}
	if v := b.Read32(eduID); v&0xff != 0xed {
		t.Errorf("identification %#x", v)
	}
}

// TestVFIOSysfs reads the same device through sysfs: the other implementation of pci.Function.
func TestVFIOSysfs(t *testing.T) {
	i, _ := findEdu(t, true)
	fds := openFiles(t)
	f, err := pci.Open(i.Address)
	if err != nil {
		t.Fatal(err)
	}
	if id, err := pci.ReadIDs(f.Config()); err != nil || id.Device != eduDevice {
		t.Errorf("ids %+v, %v", id, err)
	}
	if res, err := (pci.Sysfs{}).Resources(i.Address); err != nil || res[0].Size != 1<<20 {
		t.Errorf("resources %+v, %v", res, err)
	}
	b, err := f.BAR(0)
	if err != nil {
		t.Fatal(err)
	}
	b.Write32(eduLiveness, 7)
	if b.Read32(eduID)&0xff != 0xed || b.Read32(eduLiveness) != ^uint32(7) {
		t.Errorf("identification %#x, liveness %#x", b.Read32(eduID), b.Read32(eduLiveness))
	}
	if err := f.Reset(); err != nil && !errors.Is(err, pci.ErrNoReset) {
		t.Errorf("reset: %v", err)
	}
	if err := errors.Join(f.Close(), f.Close()); err != nil || openFiles(t) != fds {
		t.Errorf("closing: %v, %d files left", err, openFiles(t)-fds)
	}
}

func TestVFIOInterrupts(t *testing.T) {
	d := opened(t)
	ctx := t.Context()
	b, err := d.BAR(0)
	if err != nil {
		t.Fatal(err)
	}
	for kind, count := range map[vfio.IRQKind]int{vfio.INTx: 1, vfio.MSI: 1, vfio.MSIX: 0} {
		if i, err := d.IRQInfo(kind); err != nil || i.Count != count {
			t.Errorf("%v: %+v, %v; want %d", kind, i, err, count)
		}
	}
	_, err = d.EnableIRQ(vfio.MSIX, 1)
	want(t, "MSI-X", err, vfio.ErrNoIRQ)
	_, err = d.EnableIRQ(vfio.MSI, 2)
	want(t, "two MSI of one", err, vfio.ErrNoIRQ)
	if _, err := pci.SetBusMaster(d.Config(), true); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []vfio.IRQKind{vfio.MSI, vfio.INTx, vfio.MSI} {
		irqs, err := d.EnableIRQ(kind, 1)
		if err != nil {
			t.Fatal(err)
		}
		irq := irqs[0]
		if _, err := d.EnableIRQ(kind, 1); !errors.Is(err, vfio.ErrIRQEnabled) {
			t.Errorf("%v enabled twice: %v", kind, err)
		}
		const rounds = 5
		for n := range uint64(rounds) {
			if n == 0 { // the kernel's loopback
				if err := irq.Trigger(); err != nil {
					t.Fatalf("%v trigger: %v", kind, err)
				}
			} else {
				b.Write32(eduRaise, 1)
			}
			if err := irq.Wait(ctx); err != nil {
				t.Fatalf("%v: %v", kind, err)
			}
			if irq.Count() != n+1 {
				t.Errorf("%v fired %d times, want %d", kind, irq.Count(), n+1)
			}
			b.Write32(eduAck, 1)
			if kind == vfio.INTx && n > 0 {
				if err := irq.Unmask(); err != nil {
					t.Fatal(err)
				}
			}
		}
		ended, cancel := context.WithCancel(ctx)
		got := make(chan error)
		go func() { got <- irq.Wait(ended) }()
		cancel()
		if err := <-got; err != context.Canceled {
			t.Errorf("%v: waiting with a context that ends: %v", kind, err)
		}
		go func() { got <- irq.Wait(ctx) }()
		if err := d.DisableIRQ(kind); err != nil {
			t.Error(err)
		}
		want(t, "wait over disabling", <-got, vfio.ErrClosed)
	}
}

// TestVFIODMA has the device copy random bytes through two mappings, and nothing through a third that is gone.
func TestVFIODMA(t *testing.T) {
	d := opened(t)
	c := d.Container()
	b, err := d.BAR(0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pci.SetBusMaster(d.Config(), true); err != nil {
		t.Fatal(err)
	}
	irqs, err := d.EnableIRQ(vfio.MSI, 1)
	if err != nil {
		t.Fatal(err)
	}
	dma := func(from, to, n uint64, command uint32) {
		t.Helper()
		b.Write64(eduSource, from)
		b.Write64(eduTarget, to)
		b.Write64(eduCount, n)
		b.Write32(eduCommand, 1|command|4)
		if err := irqs[0].Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.Write32(eduAck, 1<<31-1)
	}
	const in, out, n = 0x100000, 0x7f_0000_0000, 1024
	src, dst := pages(t, 1), pages(t, 1)
	rand.Read(src)
	if err := errors.Join(c.MapDMA(in, src, vfio.DMARead), c.MapDMA(out, dst, vfio.DMAWrite)); err != nil {
		t.Fatal(err)
	}
	dma(in+64, eduBuffer, n, 0)
	dma(eduBuffer, out+128, n, 2)
	if !bytes.Equal(src[64:64+n], dst[128:128+n]) || bytes.Count(dst, []byte{0}) < 4096-n {
		t.Error("the bytes did not come through, or went elsewhere")
	}
	if err := c.UnmapDMA(out, 4096); err != nil {
		t.Fatal(err)
	}
	clear(dst)
	dma(eduBuffer, out, n, 2)
	if bytes.Count(dst, []byte{0}) != 4096 {
		t.Error("the device wrote memory that was taken away from it")
	}
}

package pci

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var (
	edu     = mustAddress("0000:00:03.0")
	sibling = mustAddress("0000:00:03.1")
	bridge  = mustAddress("0000:00:01.0")
	isa     = mustAddress("0000:00:1f.0")
	absent  = mustAddress("0000:00:1f.7")
)

func TestScan(t *testing.T) {
	tr := newTree(t)
	got, err := tr.sysfs().Scan()
	if err != nil {
		t.Fatal(err)
	}
	info := func(a Address, vendor, device uint16, class uint32, driver string, group int) Info {
		return Info{Address: a, Vendor: vendor, Device: device, Class: class, Revision: 0x10, SubsystemVendor: 0x1af4, SubsystemDevice: 0x1100, Driver: driver, Group: group, NUMANode: -1}
	}
	want := []Info{
		info(bridge, 0x8086, 0x3420, 0x060400, "pcieport", 1),
		info(edu, 0x1234, 0x11e8, 0x00ff00, "edu-native", 3),
		info(sibling, 0x1234, 0x11e9, 0x00ff00, "", 3),
		info(isa, 0x8086, 0x2918, 0x060100, "", -1),
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	b, err := json.Marshal(got[1])
	if err != nil || !strings.Contains(string(b), `"address":"0000:00:03.0"`) {
		t.Errorf("json: %s, %v", b, err)
	}
}

func TestScanErrors(t *testing.T) {
	whole := newTree(t)
	if _, err := whole.sysfs().Scan(); err != nil {
		t.Fatal(err)
	}
	total := whole.n
	for n := 1; n <= total; n++ {
		whole.n, whole.failAt = 0, n
		if got, err := whole.sysfs().Scan(); !errors.Is(err, syscall.EIO) || got != nil {
			t.Fatalf("operation %d of %d failed: %v, %v", n, total, got, err)
		}
	}
	if _, err := (Sysfs{Root: t.TempDir()}).Scan(); err == nil || !strings.Contains(err.Error(), "mount -t sysfs") {
		t.Errorf("no sysfs: %v", err)
	}
	tr := newTree(t)
	tr.put("devices/0000:00:03.0/vendor", "nonsense\n")
	if _, err := tr.sysfs().Scan(); err == nil || !strings.Contains(err.Error(), "vendor") {
		t.Errorf("nonsense in vendor: %v", err)
	}
	tr.put("devices/0000:00:03.0/vendor", "0x1234\n")
	tr.put("bus/pci/devices/nonsense", "")
	if _, err := tr.sysfs().Scan(); !errors.Is(err, ErrBadAddress) {
		t.Errorf("nonsense in the list: %v", err)
	}
}

// TestScanThisMachine reads whatever the machine has.
func TestScanThisMachine(t *testing.T) {
	if _, err := os.Stat("/sys/bus/pci/devices"); err != nil {
		t.Skip("this machine has no PCI bus in /sys: run on one that has")
	}
	all, err := Scan()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range all {
		if _, err := (Sysfs{}).Resources(i.Address); err != nil {
			t.Error(err)
		}
	}
}

func TestNotFound(t *testing.T) {
	s := newTree(t).sysfs()
	try := map[string]func() error{
		"info":      func() error { _, err := s.Info(absent); return err },
		"open":      func() error { _, err := s.Open(absent); return err },
		"group":     func() error { _, err := s.GroupOf(absent); return err },
		"resources": func() error { _, err := s.Resources(absent); return err },
		"bind":      func() error { _, err := s.Bind(absent, VFIODriver); return err },
	}
	for name, f := range try {
		err := f()
		if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "0000:00:1f.7") || !strings.Contains(err.Error(), "gommu devices") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestGroups(t *testing.T) {
	tr := newTree(t)
	s := tr.sysfs()
	g, err := s.GroupOf(edu)
	if err != nil || g.ID != 3 || len(g.Members) != 2 || g.Members[0].Address != edu || g.Members[1].Address != sibling || g.NoIOMMU() {
		t.Errorf("group of edu: %+v, %v", g, err)
	}
	if ids, err := s.Groups(); err != nil || !cmp.Equal(ids, []int{1, 3}) {
		t.Errorf("groups %v, %v", ids, err)
	}
	_, err = s.GroupOf(isa)
	if !errors.Is(err, ErrNoGroup) || !strings.Contains(err.Error(), "does not cover") {
		t.Errorf("function without a group on a machine with an IOMMU: %v", err)
	}
	tr.put("kernel/iommu_groups/3/name", "vfio-noiommu\n")
	tr.put("kernel/iommu_groups/3/devices/platform-thing", "")
	if g, err := s.Group(3); err != nil || !g.NoIOMMU() || g.Others != 1 {
		t.Errorf("no-IOMMU group: %+v, %v", g, err)
	}
	if _, err := s.Group(77); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("group that is not there: %v", err)
	}
	for _, d := range []string{"1", "3"} {
		if err := os.RemoveAll(filepath.Join(tr.root, "kernel/iommu_groups", d)); err != nil {
			t.Fatal(err)
		}
	}
	_, err = s.GroupOf(isa)
	if !errors.Is(err, ErrNoGroup) || !strings.Contains(err.Error(), "intel_iommu=on") {
		t.Errorf("IOMMU off: %v", err)
	}
}

func TestResources(t *testing.T) {
	tr := newTree(t)
	got, err := tr.sysfs().Resources(edu)
	want := [6]BARInfo{
		0: {Base: 0xfea00000, Size: 1 << 20},
		1: {Base: 0xc000, Size: 32, IO: true},
		3: {Base: 0xfd000010, Size: 32, Is64: true, Prefetchable: true},
		5: {Base: 0, Size: 65536},
	}
	if err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	tr.put("devices/0000:00:03.0/resource", "0x1 nonsense\n")
	if got, err := tr.sysfs().Resources(edu); err == nil || got != [6]BARInfo{} {
		t.Errorf("nonsense: %+v, %v", got, err)
	}
}

func TestFunction(t *testing.T) {
	fds := openFiles(t)
	tr := newTree(t)
	f, err := tr.sysfs().Open(edu)
	if err != nil {
		t.Fatal(err)
	}
	var _ Function = f
	if f.Address() != edu || f.Config().Size() != 256 {
		t.Errorf("address %v, config of %d bytes", f.Address(), f.Config().Size())
	}
	if id, err := ReadIDs(f.Config()); err != nil || id.Vendor != 0x1234 {
		t.Errorf("ids %+v, %v", id, err)
	}
	if _, err := SetMemoryDecode(f.Config(), false); err != nil {
		t.Fatal(err)
	}
	b, err := f.BAR(0)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := f.BAR(0); err != nil || again != b {
		t.Error("the same BAR opened twice is not the same window")
	}
	b.Write32(0x80, 0xdeadbeef)
	if got := tr.get("devices/0000:00:03.0/resource0"); got[0x80:0x84] != "\xef\xbe\xad\xde" || b.Size() != 1<<20 {
		t.Errorf("the write did not reach the device: %x of %d bytes", got[0x80:0x84], b.Size())
	}
	small, err := f.BAR(3)
	if err != nil {
		t.Fatal(err)
	}
	small.Write64(0, ^uint64(0))
	if got := tr.get("devices/0000:00:03.0/resource3"); small.Size() != 32 || got[0xf] != 0 || got[0x10] != 0xff {
		t.Errorf("a BAR inside a page: size %d, bytes %x", small.Size(), got[:0x20])
	}
	if on, err := SetMemoryDecode(f.Config(), true); err != nil || !on {
		t.Errorf("memory decoding with an open BAR: %v, %v", on, err)
	}
	for i, want := range map[int]error{-1: ErrNoBAR, 1: ErrIOPorts, 2: ErrNoBAR, 5: ErrBadBAR, 6: ErrNoBAR} {
		if _, err := f.BAR(i); !errors.Is(err, want) {
			t.Errorf("BAR %d: %v, want %v", i, err, want)
		}
	}
	if err := f.Reset(); err != nil || tr.resets != 1 {
		t.Errorf("reset: %v, %d resets", err, tr.resets)
	}
	for range 2 {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	if tr.maps != 0 || openFiles(t) != fds {
		t.Errorf("%d mappings and %d files left", tr.maps, openFiles(t)-fds)
	}
	if c := tr.get("devices/0000:00:03.0/config")[regCommand]; c&commandMemory != 0 {
		t.Error("memory decoding was off before and is on after closing")
	}
	if !panics(func() { b.Read32(0) }) {
		t.Error("a BAR of a closed function can be read")
	}
	if _, err := f.BAR(0); !errors.Is(err, ErrClosed) {
		t.Errorf("BAR of a closed function: %v", err)
	}
	if err := f.Reset(); !errors.Is(err, ErrClosed) {
		t.Errorf("reset of a closed function: %v", err)
	}
	if _, err := f.Config().Read(0, 4); !errors.Is(err, ErrClosed) {
		t.Errorf("config of a closed function: %v", err)
	}
}

func TestFunctionNoReset(t *testing.T) {
	tr := newTree(t)
	if err := os.Remove(filepath.Join(tr.root, "devices/0000:00:03.0/reset")); err != nil {
		t.Fatal(err)
	}
	f, err := tr.sysfs().Open(edu)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Reset(); !errors.Is(err, ErrNoReset) {
		t.Errorf("%v, want ErrNoReset", err)
	}
}

// readOnlyTree lets nobody open a file for writing and gives 64 bytes of config, as the kernel does for
// users other than root.
type readOnlyTree struct{ *tree }

func (r readOnlyTree) open(name string, flag int) (*os.File, error) {
	if flag != os.O_RDONLY {
		return nil, &os.PathError{Op: "open", Path: name, Err: syscall.EACCES}
	}
	f, err := r.tree.open(name, flag)
	if err == nil {
		err = os.Truncate(name, 64)
	}
	return f, err
}

func TestFunctionWithoutRights(t *testing.T) {
	tr := newTree(t)
	f, err := (Sysfs{Root: tr.root, files: readOnlyTree{tr}}).Open(edu)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	f.cfg.size = 256 // what the kernel says, whoever asks
	if _, err := ReadIDs(f.Config()); err != nil {
		t.Errorf("first 64 bytes: %v", err)
	}
	for name, err := range map[string]error{
		"read":  func() error { _, err := f.Config().Read(0x40, 4); return err }(),
		"write": func() error { _, err := SetBusMaster(f.Config(), true); return err }(),
		"BAR":   func() error { _, err := f.BAR(0); return err }(),
	} {
		if !errors.Is(err, ErrPermission) || !strings.Contains(err.Error(), "run as root") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// configReadOnly lets nobody write configuration space.
type configReadOnly struct{ *tree }

func (r configReadOnly) open(name string, flag int) (*os.File, error) {
	if flag != os.O_RDONLY && filepath.Base(name) == "config" {
		return nil, &os.PathError{Op: "open", Path: name, Err: syscall.EACCES}
	}
	return r.tree.open(name, flag)
}

// TestBARWithoutDecoding opens a BAR that the function does not answer on and that cannot be turned on.
func TestBARWithoutDecoding(t *testing.T) {
	tr := newTree(t)
	c := newConfig(256)
	c.put(regCommand, 2, 0)
	tr.put("devices/0000:00:03.0/config", string(c.b))
	f, err := (Sysfs{Root: tr.root, files: configReadOnly{tr}}).Open(edu)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.BAR(0); !errors.Is(err, ErrPermission) || tr.maps != 0 {
		t.Errorf("%v, %d mappings left", err, tr.maps)
	}
}

// TestFunctionFailures fails every file operation between opening and closing.
func TestFunctionFailures(t *testing.T) {
	use := func(tr *tree) error {
		f, err := tr.sysfs().Open(edu)
		if err != nil {
			return err
		}
		_, err = f.BAR(0)
		return errors.Join(err, f.Reset(), f.Close(), f.Close())
	}
	whole := newTree(t)
	if err := use(whole); err != nil {
		t.Fatal(err)
	}
	fds := openFiles(t)
	for n := 1; n <= whole.n; n++ {
		tr := newTree(t)
		tr.failAt = n
		if err := use(tr); !errors.Is(err, syscall.EIO) {
			t.Errorf("operation %d of %d failed: %v", n, whole.n, err)
		}
		if tr.maps != 0 && n != whole.n { // the last operation is the munmap itself
			t.Errorf("operation %d of %d failed: %d mappings left", n, whole.n, tr.maps)
		}
		if got := openFiles(t); got != fds {
			t.Fatalf("operation %d of %d failed: %d files left", n, whole.n, got-fds)
		}
	}
}

package pci

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A tree is a sysfs tree in a temporary directory, with a kernel that reacts to what is written: driver_override,
// bind, unbind, reset. Every file operation counts; the failAt-th fails.
type tree struct {
	osFiles
	t      *testing.T
	root   string
	n      int
	failAt int
	maps   int // mappings that exist
	resets int

	refuse error // what bind to vfio-pci answers
	quiet  bool  // vfio-pci refuses without saying so
}

// newTree has edu (group 3, driver edu-native), its sibling 00:03.1 (same group, no driver), a bridge (group 1,
// pcieport) and 00:1f.0, which no IOMMU covers.
func newTree(t *testing.T) *tree {
	tr := &tree{t: t, root: t.TempDir()}
	for _, d := range []string{"edu-native", "pcieport", VFIODriver} {
		tr.mkdir("bus/pci/drivers/" + d)
		tr.put("bus/pci/drivers/"+d+"/bind", "")
		tr.put("bus/pci/drivers/"+d+"/unbind", "")
	}
	tr.function("0000:00:03.0", 0x1234, 0x11e8, 0x00ff00, "edu-native", 3)
	tr.function("0000:00:03.1", 0x1234, 0x11e9, 0x00ff00, "", 3)
	tr.function("0000:00:01.0", 0x8086, 0x3420, 0x060400, "pcieport", 1)
	tr.function("0000:00:1f.0", 0x8086, 0x2918, 0x060100, "", -1)
	return tr
}

func (tr *tree) sysfs() Sysfs { return Sysfs{Root: tr.root, files: tr} }

func (tr *tree) mkdir(rel string) {
	tr.t.Helper()
	if err := os.MkdirAll(filepath.Join(tr.root, rel), 0o755); err != nil {
		tr.t.Fatal(err)
	}
}

func (tr *tree) put(rel, text string) {
	tr.t.Helper()
	if err := os.WriteFile(filepath.Join(tr.root, rel), []byte(text), 0o644); err != nil {
		tr.t.Fatal(err)
	}
}

func (tr *tree) get(rel string) string {
	tr.t.Helper()
	b, err := os.ReadFile(filepath.Join(tr.root, rel))
	if err != nil {
		tr.t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

func (tr *tree) link(to, rel string) {
	tr.t.Helper()
	if err := os.Symlink(filepath.Join(tr.root, to), filepath.Join(tr.root, rel)); err != nil {
		tr.t.Fatal(err)
	}
}

// function makes a function with the BARs and resources of an edu device.
func (tr *tree) function(addr string, vendor, device, class int, driver string, group int) {
	dir := "devices/" + addr
	tr.mkdir(dir)
	tr.mkdir("bus/pci/devices")
	tr.mkdir("kernel/iommu_groups")
	for name, v := range map[string]int{"vendor": vendor, "device": device, "subsystem_vendor": 0x1af4, "subsystem_device": 0x1100} {
		tr.put(dir+"/"+name, fmt.Sprintf("0x%04x\n", v))
	}
	tr.put(dir+"/class", fmt.Sprintf("0x%06x\n", class))
	tr.put(dir+"/revision", "0x10\n")
	tr.put(dir+"/numa_node", "-1\n")
	tr.put(dir+"/driver_override", "(null)\n")
	tr.put(dir+"/reset", "")
	tr.put(dir+"/config", string(newConfig(256).b))
	tr.put(dir+"/resource", "0x00000000fea00000 0x00000000feafffff 0x0000000000040200\n"+
		"0x000000000000c000 0x000000000000c01f 0x0000000000040101\n"+
		"0x0000000000000000 0x0000000000000000 0x0000000000000000\n"+
		"0x00000000fd000010 0x00000000fd00002f 0x0000000000142200\n"+
		"0x0000000000000000 0x0000000000000000 0x0000000000000000\n"+
		"0x0000000000000000 0x000000000000ffff 0x0000000000040200\n")
	for name, size := range map[string]int64{"/resource0": 1 << 20, "/resource3": 4096} {
		tr.put(dir+name, "")
		if err := os.Truncate(filepath.Join(tr.root, dir+name), size); err != nil {
			tr.t.Fatal(err)
		}
	}
	tr.link(dir, "bus/pci/devices/"+addr)
	if driver != "" {
		tr.link("bus/pci/drivers/"+driver, dir+"/driver")
	}
	if group >= 0 {
		g := fmt.Sprintf("kernel/iommu_groups/%d", group)
		tr.mkdir(g + "/devices")
		tr.link(g, dir+"/iommu_group")
		tr.link(dir, g+"/devices/"+addr)
	}
}

// driverOf is what the kernel has bound.
func (tr *tree) driverOf(addr string) string {
	to, err := os.Readlink(filepath.Join(tr.root, "devices", addr, "driver"))
	if err != nil {
		return ""
	}
	return path.Base(to)
}

func (tr *tree) fail(op, name string) error {
	tr.n++
	if tr.n == tr.failAt {
		return &os.PathError{Op: op, Path: name, Err: syscall.EIO}
	}
	return nil
}

func (tr *tree) readFile(name string) ([]byte, error) {
	if err := tr.fail("read", name); err != nil {
		return nil, err
	}
	return tr.osFiles.readFile(name)
}

func (tr *tree) readLink(name string) (string, error) {
	if err := tr.fail("readlink", name); err != nil {
		return "", err
	}
	return tr.osFiles.readLink(name)
}

func (tr *tree) readDir(name string) ([]string, error) {
	if err := tr.fail("readdir", name); err != nil {
		return nil, err
	}
	return tr.osFiles.readDir(name)
}

func (tr *tree) open(name string, flag int) (*os.File, error) {
	if err := tr.fail("open", name); err != nil {
		return nil, err
	}
	return tr.osFiles.open(name, flag)
}

func (tr *tree) mmap(f *os.File, length int) ([]byte, error) {
	if err := tr.fail("mmap", f.Name()); err != nil {
		return nil, err
	}
	mem, err := tr.osFiles.mmap(f, length)
	if err == nil {
		tr.maps++
	}
	return mem, err
}

func (tr *tree) munmap(mem []byte) error {
	if err := tr.fail("munmap", ""); err != nil {
		// The test must not leak, even when it pretends that unmapping failed.
		return errors.Join(err, tr.osFiles.munmap(mem))
	}
	tr.maps--
	return tr.osFiles.munmap(mem)
}

// writeFile is where the kernel reacts.
func (tr *tree) writeFile(name, data string) error {
	if err := tr.fail("write", name); err != nil {
		return err
	}
	if _, err := os.Stat(name); err != nil {
		return err
	}
	fault := func(e error) error { return &os.PathError{Op: "write", Path: name, Err: e} }
	switch base := path.Base(name); base {
	case "driver_override":
		text := strings.TrimSpace(data)
		if text == "" {
			text = "(null)"
		}
		return tr.osWrite(name, text+"\n")
	case "unbind":
		if tr.driverOf(data) != path.Base(path.Dir(name)) {
			return fault(syscall.ENODEV)
		}
		return os.Remove(filepath.Join(tr.root, "devices", data, "driver"))
	case "bind":
		return tr.bind(data, path.Base(path.Dir(name)), fault)
	case "reset":
		tr.resets++
		return nil
	default:
		return fault(syscall.EACCES)
	}
}

func (tr *tree) bind(addr, driver string, fault func(error) error) error {
	override := tr.get("devices/" + addr + "/driver_override")
	matches := override == driver || override == "(null)" && driver != VFIODriver
	switch {
	case !matches:
		return fault(syscall.ENODEV)
	case tr.driverOf(addr) != "":
		return fault(syscall.EBUSY)
	case driver == VFIODriver && tr.refuse != nil:
		return fault(tr.refuse)
	case driver == VFIODriver && tr.quiet:
		return nil
	}
	return os.Symlink(filepath.Join(tr.root, "bus/pci/drivers", driver), filepath.Join(tr.root, "devices", addr, "driver"))
}

func (tr *tree) osWrite(name, text string) error { return os.WriteFile(name, []byte(text), 0o644) }

func openFiles(t testing.TB) int {
	t.Helper()
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(d)
}

func mustAddress(s string) Address {
	a, err := ParseAddress(s)
	if err != nil {
		panic(err)
	}
	return a
}

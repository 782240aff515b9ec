package devmem

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"gommu/internal/held"
	"gommu/iommu/vtd"
)

var _ vtd.Registers = (*Registers)(nil)

const testUnit = 0xfed90000

// fakeSystem has a file of holes as /dev/mem, with a version register, and a sysfs with a
// unit that the kernel drives at 0xfed91000.
func fakeSystem(t *testing.T) system {
	t.Helper()
	dir := t.TempDir()
	sys := kernel
	sys.devMem, sys.sysfs = filepath.Join(dir, "mem"), dir
	f, err := os.Create(sys.devMem)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte{0x10}, testUnit)
	unit := filepath.Join(dir, "class/iommu/dmar0/intel-iommu")
	err = errors.Join(err, f.Truncate(testUnit+1<<16), f.Close(),
		os.MkdirAll(unit, 0o755), os.WriteFile(filepath.Join(unit, "address"), []byte("fed91000\n"), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	return sys
}

// expect checks an error's cause and that its text says what it must.
func expect(t *testing.T, what string, err, cause error, texts ...string) {
	t.Helper()
	var op *OpError
	if !errors.Is(err, cause) || !errors.As(err, &op) {
		t.Errorf("%s: %v; want an OpError with %v", what, err, cause)
		return
	}
	for _, s := range texts {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("%s: %q does not say %q", what, err, s)
		}
	}
}

func TestRegisters(t *testing.T) {
	sys := fakeSystem(t)
	before := held.Now(t)
	r, err := open(sys, testUnit, Options{Size: 8192})
	if err != nil {
		t.Fatal(err)
	}
	if r.Size() != 8192 || r.Read32(0) != 0x10 {
		t.Errorf("%d bytes, version %#x", r.Size(), r.Read32(0))
	}
	r.Write64(4096, 0x1122334455667788)
	f, err := os.Open(sys.devMem)
	if err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	if _, err := f.ReadAt(b[:], testUnit+4096); err != nil || b[0] != 0x88 {
		t.Errorf("the write did not reach the registers (%v)", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	r.sys.munmap = func([]byte) error { return syscall.ENOMEM }
	expect(t, "close without munmap", r.Close(), syscall.ENOMEM)
	r.sys.munmap = kernel.munmap
	if err := errors.Join(r.Close(), r.Close()); err != nil {
		t.Error(err)
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("an access after Close touches memory")
			}
		}()
		r.Read32(0)
	}()
	held.Check(t, before)
}

// TestRegistersRefused: each thing that can be wrong, what the error says, and that nothing stays
// open.
func TestRegistersRefused(t *testing.T) {
	good := fakeSystem(t)
	broken := func(change func(*system)) system {
		s := good
		change(&s)
		return s
	}
	badSysfs := t.TempDir()
	unit := filepath.Join(badSysfs, "class/iommu/dmar0/intel-iommu")
	if err := errors.Join(os.MkdirAll(unit, 0o755), os.WriteFile(filepath.Join(unit, "address"), []byte("zebra"), 0o644)); err != nil {
		t.Fatal(err)
	}
	opening := func(err error) func(*system) {
		return func(s *system) {
			s.open = func(name string, _ int) (*os.File, error) {
				return nil, &fs.PathError{Op: "open", Path: name, Err: err}
			}
		}
	}
	mapping := func(err error) func(*system) {
		return func(s *system) { s.mmap = func(int, int64, int) ([]byte, error) { return nil, err } }
	}
	before := held.Now(t)
	for name, c := range map[string]struct {
		sys     system
		address uint64
		size    int
		cause   error
		texts   []string
	}{
		"owned":        {good, testUnit + 0x1000, 0, ErrKernelOwns, []string{"dmar0", "intel_iommu=off"}},
		"nothing":      {good, testUnit + 0x2000, 0, ErrNoUnit, []string{"DMAR"}},
		"unaligned":    {good, testUnit + 8, 0, ErrBadAddress, nil},
		"half a page":  {good, testUnit, 100, ErrBadAddress, nil},
		"negative":     {good, testUnit, -4096, ErrBadAddress, nil},
		"bad sysfs":    {broken(func(s *system) { s.sysfs = badSysfs }), testUnit, 0, fs.ErrInvalid, nil},
		"no /dev/mem":  {broken(opening(syscall.ENOENT)), testUnit, 0, syscall.ENOENT, []string{"CONFIG_DEVMEM"}},
		"not root":     {broken(opening(syscall.EACCES)), testUnit, 0, syscall.EACCES, []string{"root"}},
		"locked down":  {broken(opening(syscall.EPERM)), testUnit, 0, syscall.EPERM, []string{"lockdown"}},
		"no file left": {broken(opening(syscall.EMFILE)), testUnit, 0, syscall.EMFILE, nil},
		"claimed":      {broken(mapping(syscall.EPERM)), testUnit, 0, syscall.EPERM, []string{"iomem=relaxed"}},
		"no memory":    {broken(mapping(syscall.ENOMEM)), testUnit, 0, syscall.ENOMEM, nil},
	} {
		r, err := open(c.sys, c.address, Options{Size: c.size})
		if r != nil {
			t.Errorf("%s: opened", name)
		}
		if name == "bad sysfs" { // strconv's error is no sentinel
			if err == nil || !strings.Contains(err.Error(), "zebra") {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		expect(t, name, err, c.cause, c.texts...)
	}
	held.Check(t, before)
}

package pci

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const eduDir = "devices/0000:00:03.0"

func TestBindAndUndo(t *testing.T) {
	tests := []struct {
		addr     Address
		override string
	}{{edu, "(null)"}, {edu, "something"}, {sibling, "(null)"}}
	for _, tt := range tests {
		tr := newTree(t)
		file := "devices/" + tt.addr.String() + "/driver_override"
		tr.put(file, tt.override+"\n")
		former := tr.driverOf(tt.addr.String())
		if tt.override == "something" {
			tr.put("bus/pci/drivers/edu-native/bind", "")
		}
		b, err := tr.sysfs().Bind(tt.addr, VFIODriver)
		if err != nil {
			t.Fatal(err)
		}
		if got := tr.driverOf(tt.addr.String()); got != VFIODriver || b.Former() != former || b.Address() != tt.addr {
			t.Errorf("bound to %q, former %q", got, b.Former())
		}
		if tt.override == "something" {
			// The kernel cannot bind the former driver under a foreign override; the error says so, and
			// another Undo, when the user has mended that, succeeds.
			if err := b.Undo(); !errors.Is(err, syscall.ENODEV) {
				t.Errorf("undo under a foreign override: %v", err)
			}
			tr.put(file, "(null)\n")
			b.override = ""
		}
		if err := b.Undo(); err != nil {
			t.Errorf("undo: %v", err)
		}
		n := tr.n
		if err := b.Undo(); err != nil || tr.n != n {
			t.Errorf("second undo: %v, %d operations", err, tr.n-n)
		}
		if got := tr.driverOf(tt.addr.String()); got != former || tr.get(file) != "(null)" {
			t.Errorf("after undo: driver %q, override %q; want %q, (null)", got, tr.get(file), former)
		}
	}
}

func TestBindAlreadyBound(t *testing.T) {
	tr := newTree(t)
	if _, err := tr.sysfs().Bind(edu, VFIODriver); err != nil {
		t.Fatal(err)
	}
	b, err := tr.sysfs().Bind(edu, VFIODriver)
	if err != nil {
		t.Fatal(err)
	}
	n := tr.n
	if err := b.Undo(); err != nil || tr.n != n || tr.driverOf(edu.String()) != VFIODriver {
		t.Errorf("the undo of a binding that changed nothing: %v, %d operations, driver %q", err, tr.n-n, tr.driverOf(edu.String()))
	}
}

func TestBindErrors(t *testing.T) {
	unloaded := newTree(t)
	if err := os.RemoveAll(filepath.Join(unloaded.root, "bus/pci/drivers", VFIODriver)); err != nil {
		t.Fatal(err)
	}
	refusing := func(err error) *tree { tr := newTree(t); tr.refuse = err; return tr }
	quiet := newTree(t)
	quiet.quiet = true
	tests := []struct {
		name   string
		tr     *tree
		addr   Address
		want   error
		remedy string
	}{
		{"module missing", unloaded, edu, ErrNoDriver, "modprobe vfio-pci"},
		{"no group", newTree(t), isa, ErrNoGroup, "does not cover"},
		{"busy", refusing(syscall.EBUSY), edu, syscall.EBUSY, "another program"},
		{"no rights", refusing(syscall.EACCES), edu, ErrPermission, "run as root"},
		{"refused", refusing(syscall.EINVAL), edu, syscall.EINVAL, "intel_iommu=on"},
		{"refused quietly", quiet, edu, ErrNotBound, "dmesg"},
	}
	for _, tt := range tests {
		before := tt.tr.driverOf(tt.addr.String())
		b, err := tt.tr.sysfs().Bind(tt.addr, VFIODriver)
		if b != nil || !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.remedy) || !strings.Contains(err.Error(), tt.addr.String()) {
			t.Errorf("%s: %v; want %v and %q", tt.name, err, tt.want, tt.remedy)
		}
		if got := tt.tr.driverOf(tt.addr.String()); got != before || tt.tr.get("devices/"+tt.addr.String()+"/driver_override") != "(null)" {
			t.Errorf("%s: driver %q left, was %q", tt.name, got, before)
		}
	}
}

// TestBindFailures fails every file operation of a bind. Nothing may have changed after it.
func TestBindFailures(t *testing.T) {
	whole := newTree(t)
	if _, err := whole.sysfs().Bind(edu, VFIODriver); err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= whole.n; n++ {
		tr := newTree(t)
		tr.failAt = n
		if _, err := tr.sysfs().Bind(edu, VFIODriver); !errors.Is(err, syscall.EIO) {
			t.Errorf("operation %d of %d failed: %v", n, whole.n, err)
		}
		if d, o := tr.driverOf(edu.String()), tr.get(eduDir+"/driver_override"); d != "edu-native" || o != "(null)" {
			t.Errorf("operation %d of %d failed: driver %q, override %q", n, whole.n, d, o)
		}
	}
}

// TestUndoFailures fails every file operation of an undo, which then succeeds when tried again.
func TestUndoFailures(t *testing.T) {
	for n := 1; ; n++ {
		tr := newTree(t)
		b, err := tr.sysfs().Bind(edu, VFIODriver)
		if err != nil {
			t.Fatal(err)
		}
		start := tr.n
		tr.failAt = start + n
		err = b.Undo()
		if tr.n < tr.failAt {
			break // every operation has failed once
		}
		if !errors.Is(err, syscall.EIO) {
			t.Errorf("operation %d failed: %v", n, err)
		}
		if err := b.Undo(); err != nil {
			t.Errorf("undo again after operation %d failed: %v", n, err)
		}
		if d, o := tr.driverOf(edu.String()), tr.get(eduDir+"/driver_override"); d != "edu-native" || o != "(null)" {
			t.Errorf("operation %d failed: driver %q, override %q", n, d, o)
		}
	}
}

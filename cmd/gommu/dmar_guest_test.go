//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gommu/iommu/dmar"
	"gommu/pci"
	"gommu/qemu-tests/vm/guest"
)

// TestGuestDMAR reads the table that QEMU made for the guest: the command says of each device
// what the kernel says of it.
func TestGuestDMAR(t *testing.T) {
	guest.SkipUnlessInside(t)
	b, err := os.ReadFile("/sys/" + dmar.TableFile)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%x", b)
	table, err := dmar.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := table.MarshalBinary(); err != nil || !bytes.Equal(again, b) {
		t.Errorf("encoded again it is %x, %v", again, err)
	}
	if len(table.Units) != 1 || table.Units[0].Base != 0xfed90000 || table.HostAddressWidth != 48 || table.Flags != dmar.InterruptRemapping {
		t.Errorf("%+v; want one unit at 0xfed90000, 48 bits, and interrupt remapping", table)
	}
	code, out := command(t, "dmar --json", false)
	var r struct {
		Owned            [][]pci.Address
		Unowned, Skipped []any
	}
	if err := json.NewDecoder(strings.NewReader(out)).Decode(&r); code != 0 || err != nil {
		t.Fatalf("exit code %d, %v:\n%s", code, err, out)
	}
	kernel, err := filepath.Glob("/sys/class/iommu/dmar0/devices/*")
	if err != nil || len(kernel) == 0 || len(r.Owned) != 1 {
		t.Fatalf("the kernel's devices: %q, %v; units with devices: %d", kernel, err, len(r.Owned))
	}
	for i, a := range r.Owned[0] {
		if i < len(kernel) && filepath.Base(kernel[i]) != a.String() {
			t.Errorf("device %d: the kernel has %s, we %s", i, kernel[i], a)
		}
	}
	if len(r.Owned[0]) != len(kernel) || len(r.Unowned)+len(r.Skipped) > 0 {
		t.Errorf("owned %v, unowned %v, skipped %q; the kernel has %q", r.Owned, r.Unowned, r.Skipped, kernel)
	}
	for _, a := range []string{ownGroup, sharedGroup} {
		if !slices.ContainsFunc(kernel, func(k string) bool { return filepath.Base(k) == a }) {
			t.Errorf("%s is not among %q", a, kernel)
		}
	}
	if code, out := command(t, "dmar", true); code == 0 || !strings.Contains(out, "run as root") {
		t.Errorf("as nobody: exit code %d:\n%s", code, out)
	}
}

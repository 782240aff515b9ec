//go:build linux

package guest

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"gommu/qemu-tests/vm/guest"
)

// TestBootIOMMU sees to it that the kernel took the unit into use: without that no other
// test of this package would mean anything.
func TestBootIOMMU(t *testing.T) {
	guest.SkipUnlessInside(t)
	units, err := filepath.Glob("/sys/class/iommu/dmar*")
	if err != nil || len(units) != 1 {
		t.Errorf("DMA remapping units: %q, %v; want one", units, err)
	}
	groups, err := filepath.Glob("/sys/kernel/iommu_groups/*/devices/*")
	if err != nil || len(groups) == 0 {
		t.Errorf("no device is in an IOMMU group (%v)", err)
	}
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil || !strings.Contains(string(cmdline), "intel_iommu=on") {
		t.Errorf("command line %q, %v", cmdline, err)
	}
}

// TestBootCapability reads the unit's capability register and finds second-stage tables of 4
// levels in it (VT-d 11.4.2, SAGAW, bit 10): vm's machines are 48 bits wide.
func TestBootCapability(t *testing.T) {
	guest.SkipUnlessInside(t)
	b, err := os.ReadFile("/sys/class/iommu/dmar0/intel-iommu/cap")
	if err != nil {
		t.Fatal(err)
	}
	c, err := strconv.ParseUint(strings.TrimSpace(string(b)), 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("CAP %#x", c)
	if c>>10&1 != 1 {
		t.Errorf("CAP %#x has no 4-level tables", c)
	}
}

// TestBootTracing wants what the eBPF programs need.
func TestBootTracing(t *testing.T) {
	guest.SkipUnlessInside(t)
	for _, p := range []string{"/sys/kernel/btf/vmlinux", "/sys/kernel/tracing/events/iommu/map/id", "/sys/fs/bpf"} {
		t.Run(filepath.Base(p), func(t *testing.T) {
			if _, err := os.Stat(p); err != nil {
				t.Error(err)
			}
		})
	}
}

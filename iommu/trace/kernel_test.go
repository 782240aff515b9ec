//go:build linux && (amd64 || arm64)

package trace

import (
	"strings"
	"testing"
)

// TestKernelHere attaches to what this machine's kernel has. What comes of it is checked in a guest, see qemu-tests/guest.
func TestKernelHere(t *testing.T) {
	tr := opened(t, Options{Kernel: true, SlowerThan: 1})
	s := snapshot(t, tr)
	seen := map[string]bool{}
	for _, m := range s.Missing {
		t.Logf("missing: %+v", m)
		if seen[m.Name] || !strings.Contains(m.Why, "CONFIG_") {
			t.Errorf("missing: %+v", m)
		}
		seen[m.Name] = true
	}
}

//go:build linux

package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The lines are as guests of these kernels write them. Those from 7.2 on name the segment.
func TestParseFault(t *testing.T) {
	for _, test := range []struct {
		kernel, line, requester string
	}{
		{"6.12", "DMAR: [DMA Write NO_PASID] Request device [00:03.0] fault addr 0x1100000 [fault reason 0x05] PTE Write access is not set", "0001:00:03.0"},
		{"7.2", "DMAR: [DMA Write NO_PASID] Request device [0002:00:03.0] fault addr 0x1100000 [fault reason 0x05] PTE Write access is not set", "0002:00:03.0"},
	} {
		f, ok := parseFault(test.line, 1)
		want := &faultReport{Reason: 5, Text: "PTE Write access is not set", IOVA: "0x1100000", Requester: test.requester, Access: "write", Log: test.line}
		if !ok {
			t.Fatalf("Linux %s: %q is not taken for a fault", test.kernel, test.line)
		}
		if diff := cmp.Diff(want, f); diff != "" {
			t.Errorf("Linux %s: %s", test.kernel, diff)
		}
	}
	for _, line := range []string{
		"",
		"DMAR: DRHD: handling fault status reg 2",
		"DMAR: [INTR-REMAP] Request device [00:03.0] fault index 0x10 [fault reason 0x22] Present field in the IRTE entry is clear",
		"DMAR: [DMA Write NO_PASID] Request device [00:03.0] fault addr 0x1100000 [fault reason 0x05",
	} {
		if f, ok := parseFault(line, 0); ok {
			t.Errorf("%q is taken for the fault %+v", line, f)
		}
	}
}

//go:build linux

package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The lines are from guests of these kernels.
func TestParseFault(t *testing.T) {
	const line = "DMAR: [DMA Write NO_PASID] Request device [00:03.0] fault addr 0x1100000 [fault reason 0x05] PTE Write access is not set"
	f, ok := parseFault(line, 1)
	want := &faultReport{Reason: 5, Text: "PTE Write access is not set", IOVA: "0x1100000", Requester: "0001:00:03.0", Access: "write", Log: line}
	if !ok {
		t.Fatalf("%q is not taken for a fault", line)
	}
	if diff := cmp.Diff(want, f); diff != "" {
		t.Error(diff)
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

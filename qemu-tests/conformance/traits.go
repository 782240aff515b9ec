package conformance

import (
	"strconv"
	"strings"

	"gommu/iommu/vtd"
)

// QEMUTraits are the traits of the unit of a version of QEMU, whoever drives it.
func QEMUTraits(version string, m Mode) Traits {
	major, _, _ := strings.Cut(version, ".")
	n, _ := strconv.Atoi(major)
	old := n < 10
	t := Traits{
		Lacks: map[Feature]string{
			PASIDs:         "no device of QEMU issues DMA with a PASID",
			SharedDomainID: "QEMU's IOTLB is keyed by requester id, not by domain id",
			PagingCache:    "QEMU has no paging-structure caches",
			AbsentCached:   "QEMU caches nothing that is not present, even in caching mode",
			LinesUnflushed: "QEMU reads memory through the CPU's caches",
			CachedFaults:   "QEMU records no fault where the access hits its IOTLB",
		},
		Record: func(r vtd.Reason) (vtd.Reason, string) { return qemuReason(old, m, r) },
	}
	if old {
		t.Lacks[InterruptFault] = "QEMU before 10.0 records no faults of interrupts"
		t.AddressMask = 7 // it keeps the mask in 8 bits and drops the domain for more
	}
	return t
}

func qemuReason(old bool, m Mode, r vtd.Reason) (vtd.Reason, string) { return r, "" }

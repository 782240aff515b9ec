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
		Record: func(r vtd.Reason, write bool) (vtd.Reason, string) { return qemuReason(old, m, r, write) },
	}
	t.Unqualified = []vtd.Reason{vtd.ReasonContextReserved}
	if m != Legacy {
		t.Lacks[PASIDCache] = "QEMU reads PASID entries again whenever its IOTLB misses"
	}
	if old {
		t.Lacks[InterruptFault] = "QEMU before 10.0 records no faults of interrupts"
		t.Unqualified = append(t.Unqualified, 0x58) // which stands for others
		t.AddressMask = 7                           // it keeps the mask in 8 bits and drops the domain for more
	}
	return t
}

// qemuLegacy are the reasons of scalable mode for which QEMU records those of legacy
// mode.
var qemuLegacy = map[vtd.Reason]vtd.Reason{
	0x38: vtd.ReasonRootAccess, 0x39: vtd.ReasonRootNotPresent, 0x3a: vtd.ReasonRootReserved,
	0x40: vtd.ReasonContextAccess, 0x41: vtd.ReasonContextNotPresent, 0x42: vtd.ReasonContextReserved,
	0x78: vtd.ReasonTableAccess, 0x7a: vtd.ReasonEntryReserved, 0x7b: vtd.ReasonContextInvalid,
	0x83: vtd.ReasonBeyondWidth, 0x84: vtd.ReasonBeyondWidth,
}

func qemuReason(old bool, m Mode, r vtd.Reason, write bool) (vtd.Reason, string) {
	switch {
	case r == 0x30:
		return 0, "QEMU takes each mode of the root table for legacy or scalable"
	case m == Legacy:
		return r, ""
	}
	if l, ok := qemuLegacy[r]; ok {
		return l, ""
	}
	switch {
	case m == ScalableSecond && (r == 0x79 || r == 0x85 || r == 0x86):
		if write {
			return vtd.ReasonNoWrite, ""
		}
		return vtd.ReasonNoRead, ""
	case r == 0x52 || r == 0x5a:
		return 0, "QEMU checks no reserved bits in PASID entries and their directory"
	case r == 0x43:
		return 0, "QEMU does not compare RID_PASID with the size of the directory"
	case r == 0x90:
		return 0, "QEMU sets accessed bits whether the walk snoops or not"
	case old && r >= 0x50 && r <= 0x5b:
		return 0x58, "" // it has one reason for all
	}
	return r, ""
}

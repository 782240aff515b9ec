package vtd

import "fmt"

// Reason is the code of a fault (section 7.1.3, table 30).
type Reason uint8

// The reasons that legacy mode has and that a driver may want to name.
const (
	ReasonRootNotPresent    Reason = 0x01
	ReasonContextNotPresent Reason = 0x02
	ReasonContextInvalid    Reason = 0x03
	ReasonBeyondWidth       Reason = 0x04
	ReasonNoWrite           Reason = 0x05
	ReasonNoRead            Reason = 0x06
	ReasonTableAccess       Reason = 0x07
	ReasonRootAccess        Reason = 0x08
	ReasonContextAccess     Reason = 0x09
	ReasonRootReserved      Reason = 0x0a
	ReasonContextReserved   Reason = 0x0b
	ReasonEntryReserved     Reason = 0x0c
	ReasonTypeBlocked       Reason = 0x0d
	ReasonInterruptRange    Reason = 0x0e
)

// Interrupt says whether it was an interrupt that was blocked, not a DMA.
func (r Reason) Interrupt() bool { return r >= 0x20 && r <= 0x2f }

// String says what the code means.
func (r Reason) String() string {
	if s := reasons[r]; s != "" {
		return s
	}
	return fmt.Sprintf("unknown fault reason %#02x", uint8(r))
}

// 0x01 to 0x0e: legacy mode. 0x20 to 0x26: interrupts. From 0x30: scalable
// mode, by the structure that the unit was reading: 0x30 root table address,
// 0x38 root entry, 0x40 context entry, 0x50 PASID directory, 0x58 PASID table,
// 0x60 and 0xa0 host permission tables, 0x70 and 0x90 first stage, 0x78 second
// stage, 0x80 the access itself. Some are of earlier revisions only.
var reasons = [256]string{
	0x01: "root entry is not present",
	0x02: "context entry is not present",
	0x03: "context entry is invalid",
	0x04: "address is beyond the table's, the unit's or the host's width",
	0x05: "no write permission",
	0x06: "no read permission",
	0x07: "page-table entry cannot be read",
	0x08: "root entry cannot be read",
	0x09: "context entry cannot be read",
	0x0a: "root entry has reserved bits set",
	0x0b: "context entry has reserved bits set",
	0x0c: "page-table entry has reserved bits set",
	0x0d: "context entry blocks this type of request",
	0x0e: "address translates into the interrupt range",

	0x20: "interrupt request has reserved bits set",
	0x21: "interrupt index is beyond the remapping table",
	0x22: "interrupt remapping entry is not present",
	0x23: "interrupt remapping entry cannot be read",
	0x24: "interrupt remapping entry has reserved bits set",
	0x25: "compatibility format interrupt is blocked",
	0x26: "interrupt is not allowed for this device",
	0x27: "posted interrupt descriptor cannot be read",
	0x28: "posted interrupt descriptor has reserved bits set",
	0x29: "write to the interrupt range is no interrupt request",
	0x2a: "extended interrupt mode is required and off",
	0x2b: "interrupt remapping is required and off",

	0x30: "root table address has an invalid mode",
	0x31: "request with PASID in legacy mode",
	0x32: "page request in legacy mode",
	0x33: "unit aborts all DMA",
	0x34: "unit knows no execute requests",
	0x38: "scalable root entry cannot be read",
	0x39: "scalable root entry is not present",
	0x3a: "scalable root entry has reserved bits set",
	0x40: "scalable context entry cannot be read",
	0x41: "scalable context entry is not present",
	0x42: "scalable context entry has reserved bits set",
	0x43: "scalable context entry is invalid, or its PASID directory too small for its RID_PASID",
	0x44: "context entry does not allow device TLB requests",
	0x45: "context entry does not allow requests with PASID",
	0x46: "PASID is beyond the PASID directory",
	0x47: "context entry does not allow page requests",
	0x48: "PASID is the one that stands for requests without PASID (RID_PASID)",
	0x49: "context entry does not allow translated requests with PASID",
	0x50: "PASID directory entry cannot be read",
	0x51: "PASID directory entry is not present",
	0x52: "PASID directory entry has reserved bits set",
	0x58: "PASID table entry cannot be read",
	0x59: "PASID table entry is not present",
	0x5a: "PASID table entry has reserved bits set",
	0x5b: "PASID table entry is invalid",
	0x5c: "PASID table entry does not allow execute requests",
	0x5d: "PASID table entry does not allow supervisor requests",
	0x60: "translated address is beyond the host permission table",
	0x70: "first-stage entry cannot be read",
	0x71: "first-stage entry is not present",
	0x72: "first-stage entry has reserved bits set",
	0x73: "first-stage root table cannot be read",
	0x74: "first-stage table's address is beyond the second stage",
	0x75: "first-stage root table has no read permission in the second stage",
	0x76: "first-stage table has no read permission in the second stage",
	0x77: "first-stage table has no write permission in the second stage",
	0x78: "second-stage entry cannot be read",
	0x79: "second-stage entry has no read or write permission",
	0x7a: "second-stage entry has reserved bits set",
	0x7b: "second-stage root table cannot be read",
	0x7c: "second-stage accessed or dirty bit needs an update that is not snooped",
	0x7d: "second-stage accessed or dirty bit cannot be updated",
	0x80: "address is not canonical",
	0x81: "no user permission in the first stage",
	0x82: "no execute permission",
	0x83: "host address is beyond the host's width",
	0x84: "address is beyond the second stage's or the unit's width",
	0x85: "no write permission",
	0x86: "no read permission",
	0x87: "address translates into the interrupt range",
	0x89: "PASID is larger than the unit can (ECAP.PSS)",
	0x90: "first-stage accessed or dirty bit needs an update that is not snooped",
	0x91: "first-stage accessed or dirty bit cannot be updated",
	0xa0: "host permission entry cannot be read",
	0xa1: "host permission entry has reserved bits set",
	0xa2: "host permission root table cannot be read",
	0xa3: "host permission tables have nothing for a read of no bytes",
	0xa4: "no write permission in the host permission tables",
	0xa5: "no read permission in the host permission tables",
}

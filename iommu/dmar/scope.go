package dmar

import (
	"fmt"
	"strings"
)

// A Scope names one device, or all devices below one bridge (Device Scope Structure,
// section 8.3.1).
type Scope struct {
	Type  ScopeType  `json:"type"`
	Flags ScopeFlags `json:"flags"` // mean something in a SIDP only

	// EnumerationID is the I/O APIC's id in the MADT, the HPET's number in its
	// table, or the ACPI device number of an ANDD, by Type.
	EnumerationID uint8 `json:"enumeration_id"`

	// Bus is the bus where the path starts. Path leads through bridges to the
	// device; an HPET and a namespace device have one step, which with Bus is their
	// requester id.
	Bus  uint8  `json:"bus"`
	Path []Step `json:"path"`
}

// A Step of a path is a function on the bus that the step before leads to.
type Step struct {
	Device   uint8 `json:"device"`   // 0 to 31
	Function uint8 `json:"function"` // 0 to 7
}

// ScopeType says what a Scope names.
type ScopeType uint8

// The scope types.
const (
	ScopeEndpoint  ScopeType = 1
	ScopeBridge    ScopeType = 2 // the bridge and all that is below it ("PCI sub-hierarchy")
	ScopeIOAPIC    ScopeType = 3
	ScopeHPET      ScopeType = 4
	ScopeNamespace ScopeType = 5
)

// known reports a type whose path has a meaning here.
func (t ScopeType) known() bool { return t >= ScopeEndpoint && t <= ScopeNamespace }

// String is a word for people.
func (t ScopeType) String() string {
	switch t {
	case ScopeEndpoint:
		return "endpoint"
	case ScopeBridge:
		return "bridge"
	case ScopeIOAPIC:
		return "ioapic"
	case ScopeHPET:
		return "hpet"
	case ScopeNamespace:
		return "namespace"
	}
	return fmt.Sprintf("scope-type-%d", uint8(t))
}

// MarshalText is String, for JSON.
func (t ScopeType) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// ScopeFlags are properties of a device in a SIDP.
type ScopeFlags uint8

// The scope flags. The first three advise against settings of the PASID entry that
// serves the device's requests without PASID.
const (
	NestedNotAllowed        ScopeFlags = 1 << 0 // REQ_WO_PASID_NESTED_NOTALLOWED: nested translation
	PageWalkSnoopNotAllowed ScopeFlags = 1 << 1 // REQ_WO_PASID_PWSNP_NOTALLOWED: page-walk snoop
	PageSnoopNotAllowed     ScopeFlags = 1 << 2 // REQ_WO_PASID_PGSNP_NOTALLOWED: page snoop
	CacheHardened           ScopeFlags = 1 << 3 // ATC_HARDENED: the device's translation cache can be trusted
	CacheRequired           ScopeFlags = 1 << 4 // ATC_REQUIRED: the device needs its translation cache

	scopeFlags = NestedNotAllowed | PageWalkSnoopNotAllowed | PageSnoopNotAllowed | CacheHardened | CacheRequired
)

var scopeFlagNames = []string{"no nested translation", "no page-walk snoop", "no page snoop", "translation cache hardened", "translation cache required"}

// String is the flags for people: "no page snoop, translation cache required".
func (f ScopeFlags) String() string { return flagNames(uint8(f), scopeFlagNames) }

// flagNames are the names of the bits that are set.
func flagNames(v uint8, names []string) string {
	var set []string
	for i, name := range names {
		if v>>i&1 != 0 {
			set = append(set, name)
		}
	}
	return strings.Join(set, ", ")
}

// String is the type with its number, and the path: "endpoint 00:1c.0/00.0" is function 0
// of device 0 behind the bridge 00:1c.0.
func (s Scope) String() string {
	var b strings.Builder
	b.WriteString(s.Type.String())
	if s.Type >= ScopeIOAPIC {
		fmt.Fprintf(&b, " %d", s.EnumerationID)
	}
	fmt.Fprintf(&b, " %02x:", s.Bus)
	for i, p := range s.Path {
		if i > 0 {
			b.WriteByte('/')
		}
		fmt.Fprintf(&b, "%02x.%x", p.Device, p.Function)
	}
	return b.String()
}

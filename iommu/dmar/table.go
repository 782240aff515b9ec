package dmar

// A Table is a DMAR table (section 8.1). Structures of one type are in the table's
// order.
type Table struct {
	Revision        uint8  `json:"revision"`
	OEMID           string `json:"oem_id"`       // at most 6 bytes, padding cut
	OEMTableID      string `json:"oem_table_id"` // at most 8 bytes, padding cut
	OEMRevision     uint32 `json:"oem_revision"`
	CreatorID       string `json:"creator_id"` // at most 4 bytes, padding cut
	CreatorRevision uint32 `json:"creator_revision"`

	// HostAddressWidth is how many bits a DMA address has at most, 12 to 64.
	HostAddressWidth int   `json:"host_address_width"`
	Flags            Flags `json:"flags"`

	Units        []DRHD `json:"units"`
	Reserved     []RMRR `json:"reserved"`
	RootPorts    []ATSR `json:"root_ports"`
	Affinity     []RHSA `json:"affinity"`
	Namespace    []ANDD `json:"namespace"`
	Caches       []SATC `json:"caches"`
	Properties   []SIDP `json:"properties"`
	Unrecognized []Raw  `json:"unrecognized"`
}

// Flags of the table (section 8.1).
type Flags uint8

const (
	// InterruptRemapping says that the platform remaps interrupts (INTR_REMAP).
	InterruptRemapping Flags = 1 << 0
	// X2APICOptOut is a request of the firmware not to use x2APIC mode
	// (X2APIC_OPT_OUT). It means something only with InterruptRemapping.
	X2APICOptOut Flags = 1 << 1
	// DMAOptIn says that the firmware's own DMA stays inside the reserved regions, so
	// that all other may be blocked from the start (DMA_CTRL_PLATFORM_OPT_IN_FLAG).
	DMAOptIn Flags = 1 << 2
)

var tableFlagNames = []string{"interrupt remapping", "x2APIC opt-out", "DMA control opt-in"}

// String is the flags for people: "interrupt remapping, x2APIC opt-out".
func (f Flags) String() string { return flagNames(uint8(f), tableFlagNames) }

// A DRHD is a remapping hardware unit (DMA Remapping Hardware Unit Definition,
// section 8.3).
type DRHD struct {
	Segment    uint16  `json:"segment"`
	IncludeAll bool    `json:"include_all"` // INCLUDE_PCI_ALL: owns what no other unit of the segment lists
	Base       uint64  `json:"base"`        // of the registers, aligned to Size
	Size       uint64  `json:"size"`        // of the registers in bytes: 4096 << 0 to 15
	Scopes     []Scope `json:"scopes"`
}

// An RMRR is memory that firmware reserved and that some devices use for DMA all the
// time (Reserved Memory Region Reporting, section 8.4). Domains of these devices need
// an identity mapping of it.
type RMRR struct {
	Segment uint16  `json:"segment"`
	Base    uint64  `json:"base"`  // of the first byte; 4 KiB aligned
	Limit   uint64  `json:"limit"` // of the last byte
	Scopes  []Scope `json:"scopes"`
}

// An ATSR names the root ports that pass on address translation services (Root Port
// ATS Capability Reporting, section 8.5).
type ATSR struct {
	Segment  uint16  `json:"segment"`
	AllPorts bool    `json:"all_ports"` // ALL_PORTS: every root port of the segment
	Scopes   []Scope `json:"scopes"`
}

// An RHSA says which NUMA node a unit is near to (Remapping Hardware Status Affinity,
// section 8.6).
type RHSA struct {
	Base      uint64 `json:"base"`      // the unit's registers
	Proximity uint32 `json:"proximity"` // domain as in the ACPI SRAT
}

// An ANDD names a device of the ACPI namespace that does DMA (ACPI Name-space Device
// Declaration, section 8.7).
type ANDD struct {
	Number uint8  `json:"number"` // ACPI device number, as in a scope's EnumerationID
	Name   string `json:"name"`   // object name: printable ASCII
}

// A SATC names devices inside the SoC that cache translations (SoC Integrated Address
// Translation Cache Reporting, section 8.8).
type SATC struct {
	Segment  uint16  `json:"segment"`
	Required bool    `json:"required"` // ATC_REQUIRED: the devices need the cache to work
	Scopes   []Scope `json:"scopes"`
}

// A SIDP tells properties of devices inside the SoC, by the flags of their scopes (SoC
// Integrated Device Property Reporting, section 8.9). Where there are SIDPs, SATCs are
// to be ignored.
type SIDP struct {
	Segment uint16  `json:"segment"`
	Scopes  []Scope `json:"scopes"`
}

// Raw is a remapping structure of a type that this package does not know.
type Raw struct {
	Type uint16 `json:"type"`
	Data []byte `json:"data"` // without the type and length
}

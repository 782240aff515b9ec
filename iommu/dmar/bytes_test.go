package dmar

import (
	"encoding/binary"
	"encoding/hex"
	"slices"
)

// join concatenates; with it tables are written by hand, field by field, without the
// package's own encoder.
func join(parts ...[]byte) []byte { return slices.Concat(parts...) }

func u16(v uint16) []byte { return binary.LittleEndian.AppendUint16(nil, v) }
func u32(v uint32) []byte { return binary.LittleEndian.AppendUint32(nil, v) }
func u64(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v) }

// acpi is a whole table: header (ACPI 5.2.6), width, flags, reserved, structures, with length and checksum right.
func acpi(width, flags byte, structures ...[]byte) []byte {
	return seal(join([]byte("DMAR\x00\x00\x00\x00\x01\x00BOCHS BXPC    "), u32(1), []byte("BXPC"), u32(1),
		[]byte{width, flags}, make([]byte, 10), join(structures...)))
}

// seal puts in the length and the checksum.
func seal(b []byte) []byte {
	binary.LittleEndian.PutUint32(b[4:], uint32(len(b)))
	return sum(b)
}

// sum puts in the checksum.
func sum(b []byte) []byte {
	b[9] = 0
	for i, v := range b {
		if i != 9 {
			b[9] -= v
		}
	}
	return b
}

// structureOf is a structure with its length right.
func structureOf(kind uint16, parts ...[]byte) []byte {
	body := join(parts...)
	return join(u16(kind), u16(uint16(len(body)+4)), body)
}

// scopeOf is a scope with its length right.
func scopeOf(kind, id, bus byte, path ...byte) []byte {
	return join([]byte{kind, byte(6 + len(path)), 0, 0, id, bus}, path)
}

// qemu is what QEMU 7.2 and 10.0 build for -M q35 -device intel-iommu,device-iotlb=on with an edu and a root
// port (hw/i386/acpi-build.c, build_dmar_q35): no INCLUDE_PCI_ALL, but each function of the root bus.
func qemu() []byte {
	return acpi(47, 0x01,
		structureOf(0, []byte{0, 0}, u16(0), u64(0xfed90000),
			scopeOf(3, 0, 0xff, 0, 0),
			scopeOf(1, 0, 0, 0, 0),
			scopeOf(1, 0, 0, 3, 0),
			scopeOf(2, 0, 0, 4, 0),
			scopeOf(1, 0, 0, 31, 0)),
		structureOf(2, []byte{1, 0}, u16(0)))
}

var qemuTable = &Table{
	Revision: 1, OEMID: "BOCHS", OEMTableID: "BXPC", OEMRevision: 1, CreatorID: "BXPC", CreatorRevision: 1,
	HostAddressWidth: 48, Flags: InterruptRemapping,
	Units: []DRHD{{Base: 0xfed90000, Size: 4096, Scopes: []Scope{
		{Type: ScopeIOAPIC, Bus: 0xff, Path: []Step{{0, 0}}},
		{Type: ScopeEndpoint, Path: []Step{{0, 0}}},
		{Type: ScopeEndpoint, Path: []Step{{3, 0}}},
		{Type: ScopeBridge, Path: []Step{{4, 0}}},
		{Type: ScopeEndpoint, Path: []Step{{31, 0}}},
	}}},
	RootPorts: []ATSR{{AllPorts: true}},
}

// server has every structure: two segments, a large register set, and what nobody knows.
func server() []byte {
	return acpi(51, 0x07,
		structureOf(0, []byte{0, 2}, u16(0), u64(0xd3700000), scopeOf(2, 0, 0x3a, 0, 0), scopeOf(1, 0, 0, 0x1c, 5, 0, 1)),
		structureOf(0, []byte{1, 0}, u16(0), u64(0xfed91000), scopeOf(3, 2, 0xf0, 31, 0), scopeOf(4, 0, 0, 31, 7), scopeOf(5, 1, 0, 30, 1)),
		structureOf(0, []byte{1, 0}, u16(1), u64(0xfed92000), scopeOf(9, 7, 1, 0xff, 0xff)),
		structureOf(1, u16(0), u16(0), u64(0x7b800000), u64(0x7fffffff), scopeOf(1, 0, 0, 2, 0)),
		structureOf(1, u16(0), u16(0), u64(0x80000000), u64(0x80000fff)),
		structureOf(2, []byte{0, 0}, u16(0), scopeOf(2, 0, 0, 0x1c, 5)),
		structureOf(3, u32(0), u64(0xfed91000), u32(3)),
		structureOf(4, []byte{0, 0, 0, 1}, []byte(`\_SB.PCI0.I2C0`+"\x00")),
		structureOf(5, []byte{1, 0}, u16(1), scopeOf(1, 0, 0x6a, 1, 0)),
		structureOf(6, u16(0), u16(1), []byte{1, 8, 0x1c, 0, 0, 0x6a, 1, 0}),
		structureOf(7, []byte("future")),
		structureOf(0xffff))
}

var serverTable = &Table{
	Revision: 1, OEMID: "BOCHS", OEMTableID: "BXPC", OEMRevision: 1, CreatorID: "BXPC", CreatorRevision: 1,
	HostAddressWidth: 52, Flags: InterruptRemapping | X2APICOptOut | DMAOptIn,
	Units: []DRHD{
		{Base: 0xd3700000, Size: 16384, Scopes: []Scope{
			{Type: ScopeBridge, Bus: 0x3a, Path: []Step{{0, 0}}},
			{Type: ScopeEndpoint, Path: []Step{{0x1c, 5}, {0, 1}}}}},
		{IncludeAll: true, Base: 0xfed91000, Size: 4096, Scopes: []Scope{
			{Type: ScopeIOAPIC, EnumerationID: 2, Bus: 0xf0, Path: []Step{{31, 0}}},
			{Type: ScopeHPET, Path: []Step{{31, 7}}},
			{Type: ScopeNamespace, EnumerationID: 1, Path: []Step{{30, 1}}}}},
		{Segment: 1, IncludeAll: true, Base: 0xfed92000, Size: 4096, Scopes: []Scope{
			{Type: 9, EnumerationID: 7, Bus: 1, Path: []Step{{0xff, 0xff}}}}},
	},
	Reserved: []RMRR{
		{Base: 0x7b800000, Limit: 0x7fffffff, Scopes: []Scope{{Type: ScopeEndpoint, Path: []Step{{2, 0}}}}},
		{Base: 0x80000000, Limit: 0x80000fff}},
	RootPorts:  []ATSR{{Scopes: []Scope{{Type: ScopeBridge, Path: []Step{{0x1c, 5}}}}}},
	Affinity:   []RHSA{{Base: 0xfed91000, Proximity: 3}},
	Namespace:  []ANDD{{Number: 1, Name: `\_SB.PCI0.I2C0`}},
	Caches:     []SATC{{Segment: 1, Required: true, Scopes: []Scope{{Type: ScopeEndpoint, Bus: 0x6a, Path: []Step{{1, 0}}}}}},
	Properties: []SIDP{{Segment: 1, Scopes: []Scope{{Type: ScopeEndpoint, Flags: PageSnoopNotAllowed | CacheHardened | CacheRequired, Bus: 0x6a, Path: []Step{{1, 0}}}}}},
	Unrecognized: []Raw{
		{Type: 7, Data: []byte("future")},
		{Type: 0xffff}},
}

// recorded is the table that a guest of QEMU 10.0 found in its sysfs: -M q35 with the devices of
// cmd/gommu's TestVFIO, -device intel-iommu,intremap=on,aw-bits=48.
func recorded() []byte {
	b, err := hex.DecodeString("444d41528000000001c8424f4348532042585043202020200100000042585043010000002f010000000000000000000000005000000000000000d9fe00000000" +
		"0308000000ff00000108000000000000010800000000030002080000000004000108000000001e000108000000001f000108000000001f020108000000001f03")
	if err != nil {
		panic(err)
	}
	return b
}

var recordedTable = func() *Table {
	t := *qemuTable
	t.RootPorts = nil
	scope := func(kind ScopeType, device, function uint8) Scope {
		return Scope{Type: kind, Path: []Step{{device, function}}}
	}
	t.Units = []DRHD{{Base: 0xfed90000, Size: 4096, Scopes: []Scope{
		{Type: ScopeIOAPIC, Bus: 0xff, Path: []Step{{0, 0}}},
		scope(ScopeEndpoint, 0, 0), scope(ScopeEndpoint, 3, 0), scope(ScopeBridge, 4, 0), scope(ScopeEndpoint, 30, 0),
		scope(ScopeEndpoint, 31, 0), scope(ScopeEndpoint, 31, 2), scope(ScopeEndpoint, 31, 3),
	}}}
	return &t
}()

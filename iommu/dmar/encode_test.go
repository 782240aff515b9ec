package dmar

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// TestRoundTrip: every table that makes sense survives being encoded and parsed.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawTable(t)
		b, err := want.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		got, err := Parse(b)
		if err != nil {
			t.Fatalf("%x: %v", b, err)
		}
		if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
			t.Fatalf("(-want +got)\n%s", d)
		}
	})
}

func drawTable(t *rapid.T) *Table {
	id := func(n int) string {
		return rapid.StringMatching(`([A-Z0-9_]([A-Z ]{0,6}[A-Z0-9_])?)?`).Filter(func(s string) bool { return len(s) <= n }).Draw(t, "id")
	}
	list := func(what string) int { return rapid.IntRange(0, 4).Draw(t, what) }
	table := &Table{
		Revision: rapid.Uint8().Draw(t, "revision"), OEMID: id(6), OEMTableID: id(8), CreatorID: id(4),
		OEMRevision: rapid.Uint32().Draw(t, "oem revision"), CreatorRevision: rapid.Uint32().Draw(t, "creator revision"),
		HostAddressWidth: rapid.IntRange(12, 64).Draw(t, "width"), Flags: Flags(rapid.Uint8Range(0, 7).Draw(t, "flags")),
	}
	for i := range list("units") {
		log := rapid.IntRange(0, 15).Draw(t, "log")
		// A slot of the largest size for each, so that they do not overlap.
		base := uint64(i+1)<<27 + rapid.Uint64Range(0, 1<<(15-log)-1).Draw(t, "place")<<(12+log)
		table.Units = append(table.Units, DRHD{Segment: uint16(i), IncludeAll: rapid.Bool().Draw(t, "all"), Base: base, Size: page << log, Scopes: drawScopes(t)})
	}
	next := uint64(0)
	for range list("regions") {
		base := next + rapid.Uint64Range(0, 1<<40).Draw(t, "gap")<<12
		next = base + rapid.Uint64Range(1, 1<<40).Draw(t, "pages")<<12
		table.Reserved = append(table.Reserved, RMRR{Segment: rapid.Uint16().Draw(t, "segment"), Base: base, Limit: next - 1, Scopes: drawScopes(t)})
	}
	for range list("root ports") {
		table.RootPorts = append(table.RootPorts, ATSR{rapid.Uint16().Draw(t, "segment"), rapid.Bool().Draw(t, "all ports"), drawScopes(t)})
	}
	for range list("affinity") {
		table.Affinity = append(table.Affinity, RHSA{rapid.Uint64().Draw(t, "base"), rapid.Uint32().Draw(t, "domain")})
	}
	for range list("namespace") {
		table.Namespace = append(table.Namespace, ANDD{rapid.Uint8().Draw(t, "number"), rapid.StringMatching(`[ -~]*`).Draw(t, "name")})
	}
	for range list("caches") {
		table.Caches = append(table.Caches, SATC{rapid.Uint16().Draw(t, "segment"), rapid.Bool().Draw(t, "required"), drawScopes(t)})
	}
	for range list("properties") {
		table.Properties = append(table.Properties, SIDP{rapid.Uint16().Draw(t, "segment"), drawScopes(t)})
	}
	for range list("unknown") {
		table.Unrecognized = append(table.Unrecognized, Raw{rapid.Uint16Range(typeUnknown, 0xffff).Draw(t, "type"), rapid.SliceOf(rapid.Byte()).Draw(t, "data")})
	}
	return table
}

func drawScopes(t *rapid.T) []Scope {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Scope {
		s := Scope{Type: ScopeType(rapid.Uint8Range(0, 7).Draw(t, "type")), Flags: ScopeFlags(rapid.Uint8Range(0, 31).Draw(t, "flags")),
			EnumerationID: rapid.Uint8().Draw(t, "id"), Bus: rapid.Uint8().Draw(t, "bus")}
		least, most, device, function := 1, 124, uint8(31), uint8(7)
		if s.Type == ScopeHPET || s.Type == ScopeNamespace {
			most = 1
		}
		if !s.Type.known() {
			least, device, function = 0, 255, 255
		}
		for range rapid.IntRange(least, most).Draw(t, "steps") {
			s.Path = append(s.Path, Step{rapid.Uint8Range(0, device).Draw(t, "device"), rapid.Uint8Range(0, function).Draw(t, "function")})
		}
		return s
	}), 0, 4).Draw(t, "scopes")
}

func TestEncodeRefuses(t *testing.T) {
	scopes := func(n int, s Scope) []Scope {
		list := make([]Scope, n)
		for i := range list {
			list[i] = s
		}
		return list
	}
	for name, change := range map[string]func(*Table){
		"width 0":          func(t *Table) { t.HostAddressWidth = 0 },
		"width 257":        func(t *Table) { t.HostAddressWidth = 257 },
		"OEM id":           func(t *Table) { t.OEMID = "1234567" },
		"OEM table id":     func(t *Table) { t.OEMTableID = "123456789" },
		"creator id":       func(t *Table) { t.CreatorID = "12345" },
		"register set 0":   func(t *Table) { t.Units = []DRHD{{Base: page}} },
		"register set odd": func(t *Table) { t.Units = []DRHD{{Base: page, Size: 3 * page}} },
		"register set":     func(t *Table) { t.Units = []DRHD{{Base: page, Size: page << 16}} },
		"half a page":      func(t *Table) { t.Units = []DRHD{{Base: page, Size: page / 2}} },
		"name":             func(t *Table) { t.Namespace = []ANDD{{Name: "A\x00B"}} },
		"long name":        func(t *Table) { t.Namespace = []ANDD{{Name: strings.Repeat("A", 1<<16)}} },
		"path":             func(t *Table) { t.RootPorts = []ATSR{{Scopes: scopes(1, Scope{Type: 1, Path: make([]Step, 125)})}} },
		"scopes":           func(t *Table) { t.RootPorts = []ATSR{{Scopes: scopes(1<<13, Scope{Type: 1, Path: make([]Step, 1)})}} },
		"unknown":          func(t *Table) { t.Unrecognized = []Raw{{Type: typeSIDP}} },
	} {
		table := *qemuTable
		change(&table)
		if b, err := table.AppendBinary([]byte("x")); !errors.Is(err, ErrTooLarge) || string(b) != "x" {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
	}
}

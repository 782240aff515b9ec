//go:build linux

package main

import (
	"os"
	"path/filepath"

	"github.com/rogpeppe/go-internal/testscript"

	"gommu/iommu/dmar"
)

// dmarTables is a command of scripts: it writes what is binary and so has no place in them. Those are the
// tables good.bin, truncated.bin and conflict.bin (two units that list one device), and in sys the
// good table and configuration spaces in which 00:04.0 is a bridge to bus 1
// and 00:03.1 a virtual function of 00:03.0.
func dmarTables(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: dmartables")
	}
	write := func(name string, b []byte) {
		name = ts.MkAbs(name)
		ts.Check(os.MkdirAll(filepath.Dir(name), 0o755))
		ts.Check(os.WriteFile(name, b, 0o644))
	}
	encode := func(t *dmar.Table) []byte {
		b, err := t.MarshalBinary()
		ts.Check(err)
		return b
	}
	good := scriptTable()
	write("good.bin", encode(good))
	write("truncated.bin", encode(good)[:80])
	write("sys/"+dmar.TableFile, encode(good))
	good.Units = append(good.Units, dmar.DRHD{Base: 0xfed93000, Size: 4096, Scopes: good.Units[0].Scopes})
	write("conflict.bin", encode(good))

	endpoint, bridge := make([]byte, 256), make([]byte, 256)
	bridge[0x0e], bridge[0x19], bridge[0x1a] = 1, 1, 1
	for addr, header := range map[string][]byte{"00:03.0": endpoint, "00:03.1": endpoint, "00:04.0": bridge, "01:01.0": endpoint, "00:05.0": endpoint} {
		write("sys/bus/pci/devices/0000:"+addr+"/config", header)
	}
	// A virtual function has the unit of its physical one.
	ts.Check(os.Symlink("../0000:00:03.0", ts.MkAbs("sys/bus/pci/devices/0000:00:03.1/physfn")))
}

// scriptTable has a bit of everything, and text that would move a terminal's cursor.
func scriptTable() *dmar.Table {
	edu := dmar.Scope{Type: dmar.ScopeEndpoint, Path: []dmar.Step{{Device: 3}}}
	below := dmar.Scope{Type: dmar.ScopeEndpoint, Path: []dmar.Step{{Device: 4}, {Device: 1}}}
	return &dmar.Table{
		Revision: 1, OEMID: "A\x1b[2J", OEMTableID: "TEST", HostAddressWidth: 39, Flags: dmar.InterruptRemapping | dmar.DMAOptIn,
		Units: []dmar.DRHD{
			{Base: 0xfed90000, Size: 4096, Scopes: []dmar.Scope{edu, {Type: dmar.ScopeEndpoint, Path: []dmar.Step{{Device: 5}, {Device: 1}}}}},
			{Base: 0xfed94000, Size: 16384, Scopes: []dmar.Scope{{Type: dmar.ScopeBridge, Path: []dmar.Step{{Device: 4}}}, {Type: dmar.ScopeIOAPIC, EnumerationID: 2, Bus: 0xff, Path: []dmar.Step{{}}}}},
		},
		Reserved:     []dmar.RMRR{{Base: 0x7b800000, Limit: 0x7b80ffff, Scopes: []dmar.Scope{below}}},
		RootPorts:    []dmar.ATSR{{AllPorts: true}},
		Affinity:     []dmar.RHSA{{Base: 0xfed94000, Proximity: 1}, {Base: 0x1000}},
		Namespace:    []dmar.ANDD{{Number: 1, Name: `\_SB.I2C0`}},
		Caches:       []dmar.SATC{{Required: true, Scopes: []dmar.Scope{edu}}},
		Properties:   []dmar.SIDP{{Scopes: []dmar.Scope{{Type: dmar.ScopeEndpoint, Flags: dmar.PageSnoopNotAllowed, Path: edu.Path}}}},
		Unrecognized: []dmar.Raw{{Type: 42, Data: []byte("???")}},
	}
}

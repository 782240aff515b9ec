package dmar

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"pgregory.net/rapid"

	"gommu/pci"
)

// bridges is a topology from a list of bridges; what is in broken cannot be read.
type bridges map[pci.Address]Buses

var errBroken = errors.New("broken")

func (b bridges) Buses(a pci.Address) (Buses, bool, error) {
	v, ok := b[a]
	if ok && v == (Buses{0xff, 0xff}) {
		return Buses{}, false, errBroken
	}
	return v, ok, nil
}

func addr(s string) pci.Address {
	a, err := pci.ParseAddress(s)
	if err != nil {
		panic(err)
	}
	return a
}

// machine: port 1c.5 leads to bus 1, where bridge 01:02.0 leads to bus 2; port 3a:00.0 to 3b-40 with 3e-3f inside.
var machine = bridges{
	addr("00:1c.5"): {1, 2}, addr("01:02.0"): {2, 2},
	addr("3a:00.0"): {0x3b, 0x40}, addr("3b:04.0"): {0x3e, 0x3f},
	addr("0001:00:1c.5"): {9, 9},
	addr("00:10.0"):      {0, 0},       // not configured
	addr("00:11.0"):      {0, 5},       // nor is this
	addr("05:00.0"):      {5, 5},       // leads to its own bus
	addr("06:00.0"):      {4, 9},       // leads back
	addr("07:00.0"):      {9, 8},       // ends before it begins
	addr("08:00.0"):      {0xff, 0xff}, // cannot be read
}

func TestScopeResolve(t *testing.T) {
	for _, tt := range []struct {
		s       Scope
		segment uint16
		want    string
		err     error
	}{
		{Scope{Type: ScopeEndpoint, Path: []Step{{2, 1}}}, 0, "0000:00:02.1", nil},
		{Scope{Type: ScopeEndpoint, Path: []Step{{0x1c, 5}, {0, 1}}}, 0, "0000:01:00.1", nil},
		{Scope{Type: ScopeBridge, Path: []Step{{0x1c, 5}, {2, 0}}}, 0, "0000:01:02.0", nil},
		{Scope{Type: ScopeEndpoint, Path: []Step{{0x1c, 5}, {2, 0}, {31, 7}}}, 0, "0000:02:1f.7", nil},
		{Scope{Type: ScopeEndpoint, Path: []Step{{0x1c, 5}, {0, 1}}}, 1, "0001:09:00.1", nil},
		{Scope{Type: ScopeIOAPIC, Bus: 0xf0, Path: []Step{{31, 0}}}, 0, "0000:f0:1f.0", nil},
		{Scope{Type: ScopeHPET, Bus: 0xf0, Path: []Step{{15, 0}}}, 0, "0000:f0:0f.0", nil},
		{Scope{Type: ScopeNamespace, Bus: 0, Path: []Step{{30, 1}}}, 0xffff, "ffff:00:1e.1", nil},
		{Scope{Type: ScopeEndpoint, Path: []Step{{0x1d, 0}, {0, 0}}}, 0, "", ErrNoBridge},
		{Scope{Type: ScopeEndpoint, Path: []Step{{0x10, 0}, {0, 0}}}, 0, "", ErrNoBridge},
		{Scope{Type: ScopeEndpoint, Path: []Step{{0x11, 0}, {0, 0}}}, 0, "", ErrNoBridge},
		{Scope{Type: ScopeEndpoint, Bus: 5, Path: []Step{{0, 0}, {0, 0}}}, 0, "", ErrLoop},
		{Scope{Type: ScopeEndpoint, Bus: 6, Path: []Step{{0, 0}, {0, 0}}}, 0, "", ErrLoop},
		{Scope{Type: ScopeEndpoint, Bus: 7, Path: []Step{{0, 0}, {0, 0}}}, 0, "", ErrLoop},
		{Scope{Type: ScopeEndpoint, Bus: 8, Path: []Step{{0, 0}, {0, 0}}}, 0, "", errBroken},
		{Scope{Type: ScopeEndpoint, Path: []Step{{32, 0}}}, 0, "", ErrPath},
		{Scope{Type: ScopeEndpoint}, 0, "", ErrScope},
		{Scope{Type: 9, Path: []Step{{0, 0}}}, 0, "", ErrScope},
	} {
		got, err := tt.s.Resolve(tt.segment, machine)
		if !errors.Is(err, tt.err) || err == nil && got != addr(tt.want) || err != nil && !strings.Contains(err.Error(), tt.s.String()) {
			t.Errorf("%s in segment %d: %s, %v; want %s, %v", tt.s, tt.segment, got, err, tt.want, tt.err)
		}
	}
}

func TestOwners(t *testing.T) {
	table := *serverTable
	table.Units = append([]DRHD{
		{Base: 1 << 20, Size: page, Scopes: []Scope{
			{Type: ScopeBridge, Bus: 0x3b, Path: []Step{{4, 0}}},                   // inside unit 1's hierarchy
			{Type: ScopeEndpoint, Bus: 0x3a, Path: []Step{{0x1d, 0}, {0, 0}}},      // not there
			{Type: ScopeBridge, Bus: 0x80, Path: []Step{{0, 0}}},                   // a host bridge
			{Type: ScopeNamespace, EnumerationID: 3, Bus: 2, Path: []Step{{9, 1}}}, // elsewhere than its neighbours
		}}}, table.Units...)
	o, err := table.Resolve(machine)
	if err != nil {
		t.Fatal(err)
	}
	if len(o.Skipped) != 1 || !errors.Is(o.Skipped[0], ErrNoBridge) {
		t.Errorf("skipped %v", o.Skipped)
	}
	for a, want := range map[string]int{
		"3a:00.0": 1, "3b:00.0": 1, "3b:1f.7": 1, "3c:00.0": 1, "40:00.0": 1, "41:00.0": 2, "3a:01.0": 2,
		"3b:04.0": 0, "3e:00.0": 0, "3f:00.0": 0, // the innermost bridge
		"01:00.1": 1, "01:00.0": 2, "02:09.1": 0, "02:09.0": 2,
		"80:00.0": 0, "80:00.1": 2, "81:00.0": 2,
		"f0:1f.0": 2, "00:1f.7": 2, "00:1e.1": 2,
		"0001:3b:00.0": 3, "0001:00:00.0": 3, "0002:00:00.0": -1, "10000:00:00.0": -1, "10001:00:00.0": -1,
	} {
		got, ok := o.Unit(addr(a))
		if !ok {
			got = -1
		}
		if got != want {
			t.Errorf("%s belongs to unit %d, want %d", a, got, want)
		}
	}
}

func TestResolveRefuses(t *testing.T) {
	unit := func(s ...Scope) DRHD { return DRHD{Scopes: s} }
	endpoint := Scope{Type: ScopeEndpoint, Path: []Step{{0x1c, 5}, {2, 0}}}
	same := Scope{Type: ScopeBridge, Bus: 1, Path: []Step{{2, 0}}} // by another path
	for name, tt := range map[string]struct {
		units []DRHD
		want  error
	}{
		"two units, one device": {[]DRHD{unit(endpoint), unit(same)}, ErrConflict},
		"one unit, twice":       {[]DRHD{unit(endpoint, same)}, nil},
		"two segments":          {[]DRHD{unit(same), {Segment: 1, Scopes: []Scope{same}}}, nil},
		"interrupts only":       {[]DRHD{unit(endpoint), unit(Scope{Type: ScopeIOAPIC, Bus: 1, Path: []Step{{2, 0}}})}, nil},
		"loop":                  {[]DRHD{unit(Scope{Type: ScopeBridge, Bus: 5, Path: []Step{{0, 0}}})}, ErrLoop},
		"loop on the way":       {[]DRHD{unit(Scope{Type: ScopeBridge, Bus: 5, Path: []Step{{0, 0}, {0, 0}, {0, 0}}})}, ErrLoop},
		"unreadable":            {[]DRHD{unit(Scope{Type: ScopeBridge, Bus: 8, Path: []Step{{0, 0}}})}, errBroken},
	} {
		if o, err := (&Table{Units: tt.units}).Resolve(machine); !errors.Is(err, tt.want) || (o == nil) != (err != nil) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
}

// TestOwnersProperty compares with a model that climbs from the device to the root, as the specification puts it,
// in random trees of bridges and with random scopes.
func TestOwnersProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		top, up := bridges{}, map[uint8]pci.Address{}
		next := uint8(1)
		var grow func(bus uint8, path []Step)
		paths := map[uint8][]Step{0: nil}
		grow = func(bus uint8, path []Step) {
			for d := range rapid.IntRange(0, 3).Draw(t, "bridges") {
				if next > 24 {
					return
				}
				a, secondary := pci.Address{Bus: bus, Device: uint8(d)}, next
				next++
				below := append(path[:len(path):len(path)], Step{Device: uint8(d)})
				paths[secondary], up[secondary] = below, a
				grow(secondary, below)
				top[a] = Buses{secondary, next - 1}
			}
		}
		grow(0, nil)
		// Each function has at most one unit, by its own scope or by the bridge's.
		explicit := map[pci.Address]int{}
		table := &Table{Units: make([]DRHD, 3)}
		all := rapid.IntRange(-1, 2).Draw(t, "include all")
		if all >= 0 {
			table.Units[all].IncludeAll = true
		}
		for bus := range next {
			for d := range uint8(4) {
				a := pci.Address{Bus: bus, Device: d}
				if rapid.IntRange(0, 3).Draw(t, "listed") > 0 {
					continue
				}
				unit, kind := rapid.IntRange(0, 2).Draw(t, "unit"), ScopeEndpoint
				if _, ok := top[a]; ok {
					kind = ScopeBridge
				}
				explicit[a] = unit
				path := append(paths[bus][:len(paths[bus]):len(paths[bus])], Step{Device: d})
				table.Units[unit].Scopes = append(table.Units[unit].Scopes, Scope{Type: kind, Path: path})
			}
		}
		o, err := table.Resolve(top)
		if err != nil || len(o.Skipped) > 0 {
			t.Fatal(err, o.Skipped)
		}
		for bus := range next {
			for d := range uint8(4) {
				a := pci.Address{Bus: bus, Device: d}
				got, ok := o.Unit(a)
				if !ok {
					got = -1
				}
				if want := climb(a, up, explicit, all); got != want {
					t.Fatalf("%s belongs to unit %d, want %d\nbridges %v\nlisted %v", a, got, want, top, explicit)
				}
			}
		}
	})
}

// climb is the unit of a: the one that lists it or, if none does, the bridge above it, or the bridge above that.
func climb(a pci.Address, up map[uint8]pci.Address, explicit map[pci.Address]int, all int) int {
	for {
		if unit, ok := explicit[a]; ok {
			return unit
		}
		above, ok := up[a.Bus]
		if !ok {
			return all
		}
		a = above
	}
}

// headers are those of a bridge, a multi-function CardBus bridge and an endpoint, and one that does not answer.
func headers() map[pci.Address][]byte {
	header := func(kind, secondary, subordinate byte) []byte {
		h := make([]byte, 256)
		h[0x0e], h[0x18], h[0x19], h[0x1a] = kind, 0, secondary, subordinate
		return h
	}
	return map[pci.Address][]byte{
		addr("00:1c.5"): header(1, 1, 2), addr("00:02.0"): header(0x82, 7, 8), addr("00:03.0"): header(0, 5, 6),
		addr("00:04.0"): []byte(strings.Repeat("\xff", 256)),
	}
}

// config is a configuration space of bytes.
type config []byte

func (c config) Size() int { return len(c) }

func (c config) Read(off, width int) (uint32, error) {
	if err := pci.CheckAccess(len(c), off, width); err != nil || width != 1 {
		return 0, fmt.Errorf("%d bytes at %#x: %w", width, off, err)
	}
	return uint32(c[off]), nil
}

func (c config) Write(int, int, uint32) error { return errors.New("written to") }

// TestTopologies: both read the same buses out of the same headers.
func TestTopologies(t *testing.T) {
	tree := fstest.MapFS{"bus/pci/devices/0000:00:05.0/config": {Data: make([]byte, 20)}}
	for a, h := range headers() {
		tree["bus/pci/devices/"+a.String()+"/config"] = &fstest.MapFile{Data: h}
	}
	open := func(a pci.Address) (pci.Config, error) {
		switch h, ok := headers()[a]; {
		case ok:
			return config(h), nil
		case a == addr("00:05.0"):
			return config(make([]byte, 8)), nil
		case a == addr("00:06.0"):
			return nil, fs.ErrPermission
		}
		return nil, &pci.OpError{Op: "open", Err: pci.ErrNotFound}
	}
	for name, top := range map[string]Topology{"sysfs": Sysfs(tree), "config": FromConfig(open)} {
		for a, want := range map[string]Buses{"00:1c.5": {1, 2}, "00:02.0": {7, 8}, "00:03.0": {}, "00:04.0": {}, "00:1f.0": {}} {
			got, ok, err := top.Buses(addr(a))
			if got != want || ok != (want != Buses{}) || err != nil {
				t.Errorf("%s: %s has %+v, %t, %v; want %+v", name, a, got, ok, err, want)
			}
		}
		if _, ok, err := top.Buses(addr("00:05.0")); ok || err == nil {
			t.Errorf("%s: a short header gives no error", name)
		}
	}
	if _, ok, err := FromConfig(open).Buses(addr("00:06.0")); ok || !errors.Is(err, fs.ErrPermission) {
		t.Errorf("no rights: %v", err)
	}
	if _, _, err := Sysfs(tree).Buses(addr("00:05.0")); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("short header: %v", err)
	}
	if _, ok, err := Sysfs(failing{fs.ErrPermission}).Buses(addr("00:05.0")); ok || !errors.Is(err, fs.ErrPermission) {
		t.Errorf("no rights: %v", err)
	}
}

// failing is a file system that opens nothing.
type failing struct{ err error }

func (f failing) Open(string) (fs.File, error) { return nil, f.err }

func TestRead(t *testing.T) {
	got, err := Read(fstest.MapFS{TableFile: {Data: qemu()}})
	if err != nil || len(got.Units) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	for name, tt := range map[string]struct {
		fsys fs.FS
		want error
		says string
	}{
		"no table":  {fstest.MapFS{}, ErrNoTable, "enable VT-d"},
		"no rights": {failing{fs.ErrPermission}, fs.ErrPermission, "run as root"},
		"broken":    {failing{errBroken}, errBroken, TableFile},
		"nonsense":  {fstest.MapFS{TableFile: {Data: []byte("DMAR")}}, ErrTruncated, "4 bytes"},
	} {
		if got, err := Read(tt.fsys); got != nil || !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %+v, %v; want %v and %q", name, got, err, tt.want, tt.says)
		}
	}
	big := acpi(47, 0, structureOf(99, make([]byte, 1<<16-5)))
	if got, err := Read(fstest.MapFS{TableFile: {Data: append(big, make([]byte, maxTable)...)}}); got != nil || err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("a file that is too large: %v", err)
	}
}

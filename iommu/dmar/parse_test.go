package dmar

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		name string
		b    []byte
		want *Table
	}{{"qemu", qemu(), qemuTable}, {"recorded", recorded(), recordedTable}, {"server", server(), serverTable}} {
		got, err := Parse(tt.b)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if d := cmp.Diff(tt.want, got, cmpopts.EquateEmpty()); d != "" {
			t.Errorf("%s: (-want +got)\n%s", tt.name, d)
		}
		b, err := tt.want.AppendBinary([]byte("before"))
		if err != nil || !bytes.Equal(b, append([]byte("before"), tt.b...)) {
			t.Errorf("%s encoded: %v\n%x, want\n%x", tt.name, err, b, tt.b)
		}
	}
}

// TestParseIgnores: reserved bits, a longer RHSA, and what lies behind the table.
func TestParseIgnores(t *testing.T) {
	odd := acpi(47, 0xf9,
		structureOf(0, []byte{0xfe, 0xf0}, u16(0), u64(0xfed90000), []byte{1, 8, 0xe0, 0xff, 0, 0, 3, 0}),
		structureOf(3, u32(1), u64(1), u32(2), []byte("more")))
	got, err := Parse(append(odd, "trailing"...))
	if err != nil {
		t.Fatal(err)
	}
	u := got.Units[0]
	if got.Flags != InterruptRemapping || u.IncludeAll || u.Size != 4096 || u.Scopes[0].Flags != 0 || got.Affinity[0] != (RHSA{1, 2}) {
		t.Errorf("%+v", got)
	}
}

// TestParseCopies: a table holds nothing of the bytes that it came from.
func TestParseCopies(t *testing.T) {
	b := server()
	got, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	clear(b)
	if d := cmp.Diff(serverTable, got, cmpopts.EquateEmpty()); d != "" {
		t.Error(d)
	}
}

func TestRefused(t *testing.T) {
	set := func(b []byte, off int, v ...byte) []byte { copy(b[off:], v); return sum(b) }
	unit := func(segment uint16, flags, size byte, base uint64, scopes ...[]byte) []byte {
		return structureOf(0, []byte{flags, size}, u16(segment), u64(base), join(scopes...))
	}
	memory := func(segment uint16, base, limit uint64) []byte {
		return structureOf(1, u16(0), u16(segment), u64(base), u64(limit))
	}
	one := func(scope []byte) []byte { return acpi(47, 0, unit(0, 0, 0, 1<<20, scope)) }
	broken := qemu()
	broken[60]++
	for _, tt := range []struct {
		name string
		b    []byte
		err  error
		at   int
		says string
	}{
		{"nothing", nil, ErrSignature, 0, `""`},
		{"another table", set(qemu(), 0, []byte("APIC")...), ErrSignature, 0, `"APIC"`},
		{"header only", qemu()[:36], ErrTruncated, 0, "36 bytes of at least 48"},
		{"length of a header", set(qemu(), 4, 36, 0, 0, 0), ErrLength, 4, "36"},
		{"length 0", set(qemu(), 4, 0, 0, 0, 0), ErrLength, 4, "0 bytes"},
		{"length of 4 GiB", set(qemu(), 4, 0xff, 0xff, 0xff, 0xff), ErrTruncated, 4, "4294967295"},
		{"cut", qemu()[:70], ErrTruncated, 4, "there are 70"},
		{"checksum", broken, ErrChecksum, 9, "0x01"},
		{"width 11", acpi(10, 0), ErrWidth, 36, "11 bits"},
		{"width 65", acpi(64, 0), ErrWidth, 36, "65 bits"},
		{"half a header", acpi(47, 0, []byte{0, 0, 4}), ErrTruncated, 48, "3 bytes are left"},
		{"structure of length 0", acpi(47, 0, []byte{0, 0, 0, 0}), ErrLength, 48, "0 bytes of at least 16"},
		{"unknown structure of length 0", acpi(47, 0, u16(99), u16(0)), ErrLength, 48, "at least 4"},
		{"structure beyond the table", acpi(47, 0, structureOf(99), u16(99), u16(5)), ErrTruncated, 52, "the table 4 more"},
		{"short DRHD", acpi(47, 0, structureOf(0, make([]byte, 11))), ErrLength, 48, "DRHD"},
		{"short RMRR", acpi(47, 0, structureOf(1, make([]byte, 19))), ErrLength, 48, "RMRR"},
		{"short ATSR", acpi(47, 0, structureOf(2, make([]byte, 3))), ErrLength, 48, "ATSR"},
		{"short RHSA", acpi(47, 0, structureOf(3, make([]byte, 15))), ErrLength, 48, "RHSA"},
		{"short ANDD", acpi(47, 0, structureOf(4, make([]byte, 4))), ErrLength, 48, "ANDD"},
		{"short SATC", acpi(47, 0, structureOf(5, make([]byte, 3))), ErrLength, 48, "SATC"},
		{"short SIDP", acpi(47, 0, structureOf(6, make([]byte, 3))), ErrLength, 48, "SIDP"},
		{"scope of length 0", one([]byte{1, 0, 0, 0, 0, 0, 0, 0}), ErrLength, 64, "0 bytes"},
		{"scope without a path", one(scopeOf(1, 0, 0)), ErrLength, 64, "at least 8"},
		{"unknown scope of length 5", one([]byte{77, 5, 0, 0, 0, 0}), ErrLength, 64, "at least 6"},
		{"odd scope", one([]byte{1, 9, 0, 0, 0, 0, 0, 0, 0}), ErrLength, 64, "9 bytes"},
		{"scope beyond its structure", join(one([]byte{1, 10, 0, 0, 0, 0, 1, 0})), ErrTruncated, 64, "the structure 8 more"},
		{"half a scope", one([]byte{1, 8, 0}), ErrTruncated, 64, "3 bytes are left"},
		{"second scope", one(join(scopeOf(1, 0, 0, 1, 0), scopeOf(1, 0, 0))), ErrLength, 72, "DRHD scope"},
		{"device 32", one(scopeOf(1, 0, 0, 32, 0)), ErrPath, 64, "20.0"},
		{"function 8", one(scopeOf(2, 0, 0, 1, 0, 31, 8)), ErrPath, 64, "1f.8"},
		{"HPET with two steps", one(scopeOf(4, 0, 0, 1, 0, 1, 0)), ErrPath, 64, "2 steps"},
		{"namespace with two steps", one(scopeOf(5, 0, 0, 1, 0, 1, 0)), ErrPath, 64, "2 steps"},
		{"scope of an RMRR", acpi(47, 0, structureOf(1, u32(0), u64(0), u64(0xfff), scopeOf(1, 0, 0))), ErrLength, 72, "RMRR scope"},
		{"scope of an ATSR", acpi(47, 0, structureOf(2, u32(0), scopeOf(1, 0, 0))), ErrLength, 56, "ATSR scope"},
		{"scope of a SATC", acpi(47, 0, structureOf(5, u32(0), scopeOf(1, 0, 0))), ErrLength, 56, "SATC scope"},
		{"scope of a SIDP", acpi(47, 0, structureOf(6, u32(0), scopeOf(1, 0, 0))), ErrLength, 56, "SIDP scope"},
		{"unit at 0", acpi(47, 0, unit(0, 0, 0, 0)), ErrAddress, 48, "at 0"},
		{"misaligned unit", acpi(47, 0, unit(0, 0, 0, 0x1800)), ErrAddress, 48, "0x1800"},
		{"unit misaligned to its size", acpi(47, 0, unit(0, 0, 3, 0x9000)), ErrAddress, 48, "0x8000"},
		{"same unit twice", acpi(47, 0, unit(0, 0, 0, 1<<20), unit(1, 0, 0, 1<<20)), ErrOverlap, 64, "offset 0x30"},
		{"unit inside a larger one", acpi(47, 0, unit(0, 0, 0, 0x3000), unit(0, 0, 0, 0x9000), unit(0, 0, 2, 0x8000)), ErrOverlap, 80, "offset 0x40"},
		{"two for the rest", acpi(47, 0, unit(1, 1, 0, 1<<20), unit(0, 1, 0, 2<<20), unit(1, 1, 0, 3<<20)), ErrDuplicate, 80, "offset 0x30 also has INCLUDE_PCI_ALL in segment 0001"},
		{"misaligned RMRR", acpi(47, 0, memory(0, 0x1800, 0x2fff)), ErrAddress, 48, "0x1800"},
		{"RMRR ends inside a page", acpi(47, 0, memory(0, 0x1000, 0x2000)), ErrAddress, 48, "0x2000"},
		{"RMRR backwards", acpi(47, 0, memory(0, 0x3000, 0x1fff)), ErrAddress, 48, "0x1fff"},
		{"empty RMRR", acpi(47, 0, memory(0, 0x3000, 0x2fff)), ErrAddress, 48, "0x2fff"},
		{"RMRRs overlap", acpi(47, 0, memory(0, 0x9000, 0x9fff), memory(0, 0x3000, 0x5fff), memory(1, 0x5000, 0x8fff)), ErrOverlap, 96, "0x3000 to 0x5fff"},
		{"RMRR over all", acpi(47, 0, memory(0, 0, 1<<64-1), memory(0, 0x3000, 0x5fff)), ErrOverlap, 72, "0xffffffffffffffff"},
		{"name without end", acpi(47, 0, structureOf(4, u32(0), []byte("AB"))), ErrName, 48, "zero byte"},
		{"name with an escape", acpi(47, 0, structureOf(4, u32(0), []byte("\x1b[2J\x00"))), ErrName, 48, "printable"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Parse(tt.b)
			var op *OpError
			if got != nil || !errors.Is(err, tt.err) || !errors.As(err, &op) {
				t.Fatalf("%+v, %v; want %v", got, err, tt.err)
			}
			if op.Offset != tt.at || !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), fmt.Sprintf("%#x", tt.at)) {
				t.Errorf("%q, offset %#x; want %q at %#x", err, op.Offset, tt.says, tt.at)
			}
		})
	}
}

// TestDamaged cuts a table everywhere and sets each byte to what may be hard to bear: nothing panics, and what is
// accepted is a table that can be written and read again.
func TestDamaged(t *testing.T) {
	whole := server()
	for n := range whole {
		if _, err := Parse(whole[:n]); err == nil {
			t.Errorf("a table cut to %d bytes is accepted", n)
		}
		if n >= tableSize {
			reread(t, seal(bytes.Clone(whole[:n])))
		}
		for _, v := range []byte{0, 1, 2, 3, 5, 8, 31, 32, 127, 255, whole[n] - 1, whole[n] + 1, whole[n] ^ 0x80} {
			b := bytes.Clone(whole)
			b[n] = v
			if _, err := Parse(b); v != whole[n] && err == nil {
				t.Errorf("byte %d as %#x is accepted with the old checksum", n, v)
			}
			reread(t, sum(b))
		}
	}
}

// reread wants that Parse refuses b with an OpError inside b, or that what it returns survives being
// encoded and parsed. It reports whether b was accepted.
func reread(t testing.TB, b []byte) bool {
	t.Helper()
	first, err := Parse(b)
	if err != nil {
		var op *OpError
		if !errors.As(err, &op) || op.Offset > len(b) || first != nil {
			t.Errorf("%x: %v", b, err)
		}
		return false
	}
	again, err := first.MarshalBinary()
	if err != nil {
		t.Fatalf("%x is parsed and not encoded: %v", b, err)
	}
	second, err := Parse(again)
	if err != nil {
		t.Fatalf("%x became %x: %v", b, again, err)
	}
	if !reflect.DeepEqual(first, second) {
		t.Errorf("%x became %x: %s", b, again, cmp.Diff(first, second))
	}
	return true
}

// TestParseMemory: what Parse takes from the heap is bounded by its input, whatever that says.
func TestParseMemory(t *testing.T) {
	const n = 1 << 16
	units := make([][]byte, n/16)
	for i := range units {
		units[i] = structureOf(0, []byte{1, 0}, u16(uint16(i)), u64(uint64(i+1)<<12))
	}
	regions := make([][]byte, n/24)
	for i := range regions {
		regions[i] = structureOf(1, u32(0), u64(uint64(i)<<12), u64(uint64(i)<<12+0xfff))
	}
	lies := acpi(47, 0, bytes.Repeat([]byte{0, 0, 0xff, 0xff}, n/4))
	for name, b := range map[string][]byte{
		"empty structures":  acpi(47, 0, bytes.Repeat(structureOf(99), n/4)),
		"tiny structures":   acpi(47, 0, bytes.Repeat(structureOf(99, []byte{1}), n/5)),
		"short scopes":      acpi(47, 0, structureOf(2, u32(0), bytes.Repeat(scopeOf(1, 0, 0, 1, 0), n/8-8))),
		"empty scopes":      acpi(47, 0, structureOf(2, u32(0), bytes.Repeat(scopeOf(99, 0, 0), n/6-8))),
		"long paths":        acpi(47, 0, structureOf(2, u32(0), bytes.Repeat(scopeOf(1, 0, 0, make([]byte, 248)...), n/254-8))),
		"units":             acpi(47, 0, units...),
		"regions":           acpi(47, 0, regions...),
		"too long":          lies,
		"a length of 4 GiB": sum(append([]byte("DMAR\xff\xff\xff\xff"), make([]byte, 64)...)),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		got, err := Parse(b)
		runtime.ReadMemStats(&after)
		if bad := name == "too long" || name == "a length of 4 GiB"; bad != (err != nil) {
			t.Errorf("%s: %v", name, err)
		}
		runtime.KeepAlive(got)
		used := after.TotalAlloc - before.TotalAlloc
		t.Logf("%s: %d bytes of input, %.1f times as many allocated", name, len(b), float64(used)/float64(len(b)))
		if used > 16*uint64(len(b))+16<<10 {
			t.Errorf("%s: %d bytes of input, %d allocated", name, len(b), used)
		}
	}
}

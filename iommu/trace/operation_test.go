package trace

import (
	"testing"

	"gommu/pci"
)

func TestOperations(t *testing.T) {
	seen := map[string]bool{}
	for o := Map; o < operations; o++ {
		name := o.String()
		if text, err := o.MarshalText(); err != nil || string(text) != name || name == "" || seen[name] {
			t.Errorf("operation %d is called %q, %s, %v", uint16(o), name, text, err)
		}
		seen[name] = true
	}
	if !seen["dmar_fault"] || Operation(999).String() != "operation 999" || operations.Timed() {
		t.Errorf("%v, %v", seen, Operation(999))
	}
}

func TestSource(t *testing.T) {
	for text, want := range map[string]Source{"00:00.0": 0, "00:03.0": 0x18, "ff:1f.7": 0xffff, "0001:00:03.0": 0x1_0018, "10000:00:03.0": 0x1_0000_0018} {
		a, err := pci.ParseAddress(text)
		if err != nil {
			t.Fatal(err)
		}
		if s := SourceOf(a); s != want || s.String() != text {
			t.Errorf("%s is %#x, printed %v; want %#x", text, uint64(s), s, uint64(want))
		}
	}
	if Several.String() != "-" {
		t.Errorf("several are %v", Several)
	}
}

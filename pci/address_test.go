package pci

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestParseAddress(t *testing.T) {
	good := map[string]Address{
		"0000:00:03.0":     {0, 0, 3, 0},
		"00:03.0":          {0, 0, 3, 0},
		"0001:ff:1f.7":     {1, 0xff, 0x1f, 7},
		"10000:E1:00.1":    {0x10000, 0xe1, 0, 1},
		"ffffffff:00:00.0": {0xffffffff, 0, 0, 0},
	}
	for s, want := range good {
		got, err := ParseAddress(s)
		if err != nil || got != want {
			t.Errorf("ParseAddress(%q) = %v, %v; want %v", s, got, err, want)
		}
	}
	bad := map[string]string{
		"": "colons", "3.0": "colons", "0:0:0:0.0": "colons", "0000:00:03": "device.function", "00:3.0": "2 digits",
		"00:20.0": "more than 1f", "00:03.8": "more than 7", "00:03.00": "1 digit", "0:03.0": "2 digits", "000:00:03.0": "4 to 8",
		"100000000:00:03.0": "4 to 8", "0x00:00:03.0": "hexadecimal", "00:+3.0": "hexadecimal", "00:03.-": "hexadecimal", " 00:03.0": "hexadecimal",
	}
	for s, want := range bad {
		_, err := ParseAddress(s)
		if !errors.Is(err, ErrBadAddress) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "0000:00:03.0") {
			t.Errorf("ParseAddress(%q): %v; want ErrBadAddress with %q and an example", s, err, want)
		}
	}
}

func TestAddressRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := Address{rapid.Uint32().Draw(t, "domain"), rapid.Uint8().Draw(t, "bus"), rapid.Uint8Range(0, 31).Draw(t, "device"), rapid.Uint8Range(0, 7).Draw(t, "function")}
		b, err := json.Marshal(map[string]Address{"a": a})
		if err != nil {
			t.Fatal(err)
		}
		var m map[string]Address
		if err := json.Unmarshal(b, &m); err != nil || m["a"] != a {
			t.Fatalf("%s became %v, %v", b, m, err)
		}
		if a.Compare(a) != 0 {
			t.Fatal("an address differs from itself")
		}
	})
	var a Address
	if err := a.UnmarshalText([]byte("x")); !errors.Is(err, ErrBadAddress) || a != (Address{}) {
		t.Errorf("UnmarshalText of nonsense: %v, address %v", err, a)
	}
}

func TestAddressOrder(t *testing.T) {
	list := []string{"0000:00:00.0", "0000:00:00.1", "0000:00:01.0", "0000:01:00.0", "0001:00:00.0"}
	for i, x := range list {
		for j, y := range list {
			a, _ := ParseAddress(x)
			b, _ := ParseAddress(y)
			if c := a.Compare(b); (c < 0) != (i < j) || (c == 0) != (i == j) {
				t.Errorf("%s compared with %s gives %d", x, y, c)
			}
		}
	}
}

func TestRequesterID(t *testing.T) {
	if id := (Address{0, 0x12, 0x1f, 5}).RequesterID(); id != 0x12fd {
		t.Errorf("requester id %#x, want 0x12fd", id)
	}
}

package pci

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
)

const someNames = `# comment
1234  Technical Corp.
	11e8  Emulated  device
		1af4 1100  Board
	zzzz  malformed
8086  Intel Corporation
	0e20

C 01  Mass storage controller
	08  Non-Volatile memory controller
		02  NVM Express
C 02  Network controller
L 0123  something else
	0001  not a device
ffzz  malformed vendor
	1111  orphan
`

func TestNames(t *testing.T) {
	n, err := ParseNames(strings.NewReader(someNames))
	if err != nil {
		t.Fatal(err)
	}
	for got, want := range map[string]string{
		n.Vendor(0x1234):         "Technical Corp.",
		n.Device(0x1234, 0x11e8): "Emulated  device",
		n.Class(0x010802):        "Non-Volatile memory controller",
		n.Class(0x01ff00):        "Mass storage controller",
		n.Class(0x020000):        "Network controller",
		n.Interface(0x010802):    "NVM Express",
		n.Describe(0x8086, 1):    "Intel Corporation device 0001",
		n.Describe(0xdead, 1):    "vendor dead device 0001",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for _, got := range []string{n.Vendor(0x0123), n.Device(0x8086, 0x0001), n.Device(0x1234, 0x1111), n.Class(0xff0000), n.Interface(0x010800), n.Device(0x8086, 0x0e20)} {
		if got != "" {
			t.Errorf("%q for a number that has no name", got)
		}
	}
	if _, err := ParseNames(iotest.ErrReader(io.ErrUnexpectedEOF)); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("reading failed: %v", err)
	}
}

func TestLoadNames(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "pci.ids")
	n, err := LoadNames(file)
	if err != nil || n.Vendor(0x1234) != "" || n.Describe(1, 2) != "vendor 0001 device 0002" {
		t.Errorf("missing file: %v, %v", n, err)
	}
	if err := os.WriteFile(file, []byte(someNames), 0o600); err != nil {
		t.Fatal(err)
	}
	n, err = LoadNames(filepath.Join(dir, "absent"), file)
	if err != nil || n.Vendor(0x1234) != "Technical Corp." {
		t.Errorf("second path: %v", err)
	}
	if _, err := LoadNames(filepath.Join(file, "below")); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a path through a file: %v, want an error", err)
	}
	if _, err := LoadNames(); err != nil {
		t.Errorf("usual places: %v", err)
	}
}

func FuzzNames(f *testing.F) {
	f.Add(someNames)
	f.Fuzz(func(t *testing.T, s string) {
		n, err := ParseNames(strings.NewReader(s))
		if err == nil {
			n.Describe(0x1234, 0x11e8)
			n.Class(0x010802)
		}
	})
}

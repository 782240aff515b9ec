package provision

import (
	"cmp"
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

func TestCompareVersions(t *testing.T) {
	order := []string{"", "6.1.0-9-amd64", "6.1.0-10-amd64", "6.12.9+deb12-amd64", "6.12.117+deb12-amd64", "7.2", "7.2.9", "7.2.22", "10.0.2"}
	for i, a := range order {
		for j, b := range order {
			if got := compareVersions(a, b); got != cmp.Compare(i, j) {
				t.Errorf("compareVersions(%q, %q) = %d", a, b, got)
			}
		}
	}
}

// Versions of numbers compare like the numbers, and any texts antisymmetrically.
func TestCompareVersionsProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		number := rapid.IntRange(0, 2000)
		a, b := [2]int{number.Draw(t, "a0"), number.Draw(t, "a1")}, [2]int{number.Draw(t, "b0"), number.Draw(t, "b1")}
		want := cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1]))
		if got := compareVersions(fmt.Sprintf("%d.%d", a[0], a[1]), fmt.Sprintf("%d.%d", b[0], b[1])); got != want {
			t.Fatalf("%v, %v: %d", a, b, got)
		}
		text := rapid.StringMatching(`[0-9a-c.+-]{0,8}`)
		x, y := text.Draw(t, "x"), text.Draw(t, "y")
		if compareVersions(x, y) != -compareVersions(y, x) {
			t.Fatalf("%q, %q", x, y)
		}
	})
}

func TestParseVersion(t *testing.T) {
	for out, want := range map[string]string{
		"QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\nCopyright": "7.2.22",
		"QEMU emulator version 11.1.3\n":                                "11.1.3",
		"QEMU emulator version ../../x":                                 "",
		"QEMU emulator version 1/../../x":                               "",
		"QEMU emulator version ":                                        "",
		"hello":                                                         "",
	} {
		if got, ok := parseVersion(out); got != want || ok != (want != "") {
			t.Errorf("%q: %q, %v", out, got, ok)
		}
	}
}

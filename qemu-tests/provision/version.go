package provision

import (
	"cmp"
	"strings"
)

// compareVersions orders QEMU versions and kernel releases: runs of digits by value, the rest by bytes; "1.2" is
// before "1.2.1".
func compareVersions(a, b string) int {
	for a != "" && b != "" {
		var x, y string
		x, a = leadingRun(a)
		y, b = leadingRun(b)
		if isDigit(x[0]) && isDigit(y[0]) {
			x, y = strings.TrimLeft(x, "0"), strings.TrimLeft(y, "0")
			if c := cmp.Compare(len(x), len(y)); c != 0 {
				return c
			}
		}
		if c := strings.Compare(x, y); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(a), len(b))
}

// leadingRun splits s, which is not empty, after its leading digits or non-digits.
func leadingRun(s string) (run, rest string) {
	n := 1
	for n < len(s) && isDigit(s[n]) == isDigit(s[0]) {
		n++
	}
	return s[:n], s[n:]
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

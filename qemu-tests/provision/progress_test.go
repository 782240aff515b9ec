package provision

import (
	"bytes"
	"runtime"
	"strings"
	"testing"
)

var story = []Event{
	{"fetch package lists", 0, 0}, {"fetch package lists", 9e6, 0},
	{"download QEMU", 0, 43e6}, {"download QEMU", 20e6, 43e6}, {"download QEMU", 43e6, 43e6}, {"download QEMU", 43e6, 43e6},
	{"unpack QEMU", 0, 800}, {"unpack QEMU", 900, 800},
	{"check", 0, 0},
}

func TestDisplayLines(t *testing.T) {
	var b bytes.Buffer
	show := Display(&b)
	for _, e := range story {
		show(e)
	}
	if want := "fetch package lists\ndownload QEMU (43 MB)\nunpack QEMU (1 kB)\ncheck\n"; b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}

func TestDisplayBars(t *testing.T) {
	var b bytes.Buffer
	before := runtime.NumGoroutine()
	show := bars(&b)
	for _, e := range story {
		show(e)
	}
	lines := strings.Split(b.String(), "\n")
	if len(lines) != 4 {
		t.Fatalf("%d lines: %q", len(lines), lines)
	}
	for i, want := range []string{"fetch package lists", "download QEMU 100%", "unpack QEMU", "check"} {
		if !strings.Contains(lines[i], want) {
			t.Errorf("line %d: %q lacks %q", i, lines[i], want)
		}
	}
	if n := runtime.NumGoroutine(); n > before {
		t.Errorf("%d goroutines, were %d", n, before)
	}
}

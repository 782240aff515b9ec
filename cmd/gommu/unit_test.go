//go:build linux

package main

import (
	"strings"
	"testing"

	"gommu/qemu-tests/conformance"
	"gommu/qemu-tests/vm"
)

// TestUnitDevmem reads the unit of a guest, which nobody has switched on.
func TestUnitDevmem(t *testing.T) {
	in := vm.Require(t)
	m, err := testProgram("unit", "--on", "devmem", "--address", "0xfed90000")
	if err != nil {
		t.Fatal(err)
	}
	m.QEMU, m.Kernel, m.Cmdline = in.QEMUs[0], in.Kernel, conformance.DevmemCmdline
	res, err := vm.Boot(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	out := string(res.Stdout)
	for _, want := range []string{"unit at 0xfed90000\n", "version 1.0\n", "01c GSTS   0x00000000\n", "RTADDR 0x0000000000000000  root table at 0x0, legacy mode\n", "no fault\n", "domains 65536"} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not say %q", want)
		}
	}
	if res.ExitCode != 0 || t.Failed() {
		t.Errorf("exit code %d; it wrote:\n%s%s", res.ExitCode, out, res.Stderr)
	}
}

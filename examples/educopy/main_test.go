package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"gommu/qemu-tests/provision"
	"gommu/qemu-tests/rung"
	"gommu/qemu-tests/vm"
)

// TestRungs runs the program on every rung.
func TestRungs(t *testing.T) {
	program := filepath.Join(t.TempDir(), "educopy")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, name := range rung.Names() {
		t.Run(name, func(t *testing.T) {
			switch name {
			case "qtest":
				provision.Require(t, name, provision.Options{NoKernel: true})
			case "vm", "vfio":
				vm.Require(t)
			}
			out, err := exec.Command(program, "--on", name).CombinedOutput()
			if err != nil || !strings.HasPrefix(string(out), name+": 8 copies, 16320 bytes, by device 0000:00:03.0: compared") {
				t.Errorf("%v; it wrote:\n%s", err, out)
			}
		})
	}
	out, err := exec.Command(program, "--on", "tin").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "no such rung") {
		t.Errorf("%v; it wrote:\n%s", err, out)
	}
}

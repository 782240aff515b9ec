//go:build linux

package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"gommu/internal/held"
	"gommu/qemu-tests/vm"
	"gommu/qemu-tests/vm/guest"
	"gommu/respool"
)

// TestVFIO runs the tests below whose names begin with TestGuest on every kernel, in a guest
// with an edu device of its own group, and one that shares its group with a
// network card: both are behind a bridge that hides who asks.
func TestVFIO(t *testing.T) {
	for _, k := range vm.Require(t).Kernels {
		t.Run(k.Release, func(t *testing.T) {
			vm.Run(t, vm.Config{
				Package: "gommu/cmd/gommu",
				Tests:   "^TestGuest",
				Machine: vm.Machine{
					Kernel:  k,
					Args:    []string{"-test.skip=^TestGuestCommand$"},
					Devices: []string{"edu,addr=0x3", "pcie-pci-bridge,id=bridge,addr=0x4", "edu,bus=bridge,addr=0x1", "e1000,bus=bridge,addr=0x2,romfile="},
					Modules: append([]string{"e1000"}, guestModules...),
					Timeout: 2 * time.Minute,
				},
			})
		})
	}
}

// TestVFIOWithoutIOMMU runs the command in a guest without an IOMMU.
func TestVFIOWithoutIOMMU(t *testing.T) {
	installed := vm.Require(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	res, err := vm.Boot(t.Context(), vm.Machine{
		QEMU: installed.QEMUs[0], Kernel: installed.Kernel,
		Init: self, Args: []string{"-test.run=^TestGuestCommand$"}, Env: []string{"GOMMU_ARGS=demo --on vfio --json"},
		IOMMU: "off", Devices: []string{"edu,addr=0x3"}, Modules: guestModules,
	})
	if err != nil {
		t.Fatal(err)
	}
	out := string(res.Stdout) + string(res.Stderr)
	if res.ExitCode == 0 || !strings.Contains(out, "IOMMU is off") || !strings.Contains(out, "intel_iommu=on") {
		t.Errorf("exit code %d, want another and the remedy; it wrote:\n%s", res.ExitCode, out)
	}
}

// TestGuestCommand is the command in a guest: its arguments are in GOMMU_ARGS.
func TestGuestCommand(t *testing.T) {
	guest.SkipUnlessInside(t)
	args := os.Getenv("GOMMU_ARGS")
	if args == "" {
		t.Skip("needs arguments in GOMMU_ARGS: TestVFIOWithoutIOMMU gives them")
	}
	os.Args = append([]string{"gommu"}, strings.Fields(args)...)
	if code := run(); code != 0 {
		t.Fatalf("exit code %d", code)
	}
}

const (
	ownGroup    = "0000:00:03.0"
	sharedGroup = "0000:01:01.0"
)

// TestGuestDemoLeaks runs the demonstration through VFIO, and again failing at
// one transfer after the other.
func TestGuestDemoLeaks(t *testing.T) {
	guest.SkipUnlessInside(t)
	all := 0
	demo := func(failAt int) *report {
		r := &report{Rung: "vfio"}
		err := demoVFIO(t.Context(), demoOptions{device: ownGroup, beforeTransfer: func(n int) error {
			all = n + 1
			if n == failAt {
				return errInjected
			}
			return nil
		}}, r)
		r.finish(err)
		if failAt >= 0 && !errors.Is(err, errInjected) {
			t.Errorf("failing at transfer %d: error %v, want the injected one", failAt, err)
		}
		if errors.Is(err, respool.ErrLeaked) || errors.Is(err, errLeaked) {
			t.Errorf("failing at transfer %d: %v", failAt, err)
		}
		return r
	}
	demo(0) // what the runtime opens for itself and keeps, it has now
	before := held.Now(t)
	checkReport(t, demo(-1))
	held.Check(t, before)
	last := all - 1
	for _, n := range []int{1, last} {
		demo(n)
		if held.Check(t, before); t.Failed() {
			t.Fatalf("failing at transfer %d", n)
		}
		if driver, err := os.Readlink("/sys/bus/pci/devices/" + ownGroup + "/driver"); err == nil {
			t.Errorf("after failing at transfer %d the device is bound to %s", n, driver)
		}
	}
}

// TestGuestBadInput gives the command what it cannot work with.
func TestGuestBadInput(t *testing.T) {
	guest.SkipUnlessInside(t)
	for _, tt := range []struct {
		name   string
		args   string
		nobody bool
		want   []string
	}{
		{"unknown function", "--device 0000:00:1e.7", false, []string{"no such PCI function", "gommu devices"}},
		{"not an edu device", "--device 0000:00:00.0", false, []string{"0000:00:00.0"}},
		{"two devices", "", false, []string{"2 edu devices", "--device " + ownGroup}},
		{"group not viable", "--device " + sharedGroup, false, []string{"not viable", "0000:01:02.0", "e1000"}},
		{"no permission", "--device " + ownGroup, true, []string{"operation not permitted", "run as root"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, out := command(t, "demo --on vfio --json "+tt.args, tt.nobody)
			if code == 0 {
				t.Error("exit code 0")
			}
			for _, w := range tt.want {
				if !strings.Contains(out, w) {
					t.Errorf("it does not say %q:\n%s", w, out)
				}
			}
			for _, addr := range []string{ownGroup, sharedGroup} {
				if driver, err := os.Readlink("/sys/bus/pci/devices/" + addr + "/driver"); err == nil {
					t.Errorf("%s is left bound to %s", addr, driver)
				}
			}
		})
	}
}

// TestGuestDoctor: the guest has everything but QEMU.
func TestGuestDoctor(t *testing.T) {
	guest.SkipUnlessInside(t)
	code, out := command(t, "doctor", false)
	if code != 0 || !strings.Contains(out, "on: dmar0") || !strings.Contains(out, "ok       rung vfio") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
	if code, out = command(t, "devices", false); code != 0 || !strings.Contains(out, "1234:11e8") || !strings.Contains(out, "e1000") {
		t.Errorf("devices: exit code %d:\n%s", code, out)
	}
}

// command runs this program as the command, as root or as nobody.
func command(t *testing.T, args string, nobody bool) (code int, output string) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestGuestCommand$")
	cmd.Env = append(os.Environ(), "GOMMU_ARGS="+args)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if nobody {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String()
}

package vm

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gommu/internal/held"
	"gommu/qemu-tests/provision"
)

// TestEndings ends boots in every way that there is, and finds nothing left of them.
func TestEndings(t *testing.T) {
	good := machine(t, "ok")
	for _, c := range []struct {
		name   string
		change func(*Machine)
		cancel time.Duration
		want   error
		text   string // in the error
	}{
		{name: "QEMU refuses", change: func(m *Machine) { m.Devices = []string{"no-such-device"} }, want: ErrNoResult, text: "no-such-device"},
		{name: "kernel panic", change: func(m *Machine) { m.Cmdline = "rdinit=/none" }, want: ErrNoResult, text: "Kernel panic"},
		{name: "time limit of the host", change: func(m *Machine) { m.Timeout = 300 * time.Millisecond }, want: ErrTimeout},
		{name: "cancelled", cancel: 500 * time.Millisecond, want: context.Canceled},
		{name: "cancelled before", cancel: -1, want: context.Canceled},
		{name: "no QEMU", change: func(m *Machine) { m.QEMU.Path = "/none/qemu" }, want: os.ErrNotExist, text: "/none/qemu"},
		{name: "no kernel", change: func(m *Machine) { m.Kernel.Image = "/none/vmlinuz" }, want: os.ErrNotExist, text: "/none/vmlinuz"},
		{name: "no kernel image", change: func(m *Machine) { m.Kernel.Image = "boot_test.go" }, want: ErrKernel, text: "boot_test.go"},
		{name: "no program", change: func(m *Machine) { m.Init = "/none/init" }, want: os.ErrNotExist, text: "/none/init"},
		{name: "no executable", change: func(m *Machine) { m.Init = "boot_test.go" }, text: "boot_test.go: bad magic number"},
		{name: "no file", change: func(m *Machine) { m.Files = map[string]string{"/f": "/none/file"} }, want: os.ErrNotExist, text: "/none/file"},
		{name: "no module", change: func(m *Machine) { m.Modules = []string{"no-such-module"} }, want: ErrModule, text: "no_such_module"},
		{name: "bad module parameter", change: func(m *Machine) { m.Modules = []string{"vfio_iommu_type1 allow_unsafe_interrupts=maybe"} }, want: ErrGuest, text: "loading module vfio_iommu_type1: invalid argument"},
		{name: "nowhere to fetch to", change: func(m *Machine) { m.Fetch = map[string]string{"/proc/version": "/none/file"} }, want: os.ErrNotExist, text: "/none"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tmp := t.TempDir()
			t.Setenv("TMPDIR", tmp)
			m := good
			if c.change != nil {
				c.change(&m)
			}
			m.KVM = KVMNever
			before := held.Now(t)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			if c.cancel < 0 {
				cancel()
			} else if c.cancel > 0 {
				defer time.AfterFunc(c.cancel, cancel).Stop()
			}
			_, err := Boot(ctx, m)
			var e *Error
			if !errors.As(err, &e) || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("%v; want %v with %q", err, c.want, c.text)
			}
			held.Check(t, before)
			if files, err := os.ReadDir(tmp); err != nil || len(files) > 0 {
				t.Errorf("temporary files are left: %v, %v", files, err)
			}
		})
	}
}

// TestMissing: without QEMU or a kernel Boot says what provision says.
func TestMissing(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOMMU_QEMU", "/none/qemu")
	if _, err := Boot(t.Context(), Machine{Init: exe}); !errors.Is(err, provision.ErrOverride) {
		t.Errorf("QEMU: %v", err)
	}
	t.Setenv("GOMMU_KERNEL", "/none/vmlinuz")
	t.Setenv("GOMMU_MODULES", "/none")
	if _, err := Boot(t.Context(), Machine{Init: exe, QEMU: provision.QEMU{Path: "/none"}}); !errors.Is(err, provision.ErrOverride) {
		t.Errorf("kernel: %v", err)
	}
}

// TestPanic: a program that panics ends with Go's exit code, and its trace comes home.
func TestPanic(t *testing.T) {
	t.Parallel()
	res := mustBoot(t, machine(t, "panic"))
	if res.ExitCode != 2 || !bytes.Contains(res.Stderr, []byte("panic: a panic in the guest")) || !bytes.Contains(res.Stderr, []byte("vm.program")) {
		t.Errorf("exit code %d, stderr %s", res.ExitCode, res.Stderr)
	}
}

// TestHang: a program that hangs is made to say where, and ended, before the host has to.
func TestHang(t *testing.T) {
	t.Parallel()
	m := machine(t, "hang")
	m.quit = time.Second // it has run for a second all the same
	res, err := Boot(context.Background(), m)
	if !errors.Is(err, ErrTimeout) {
		t.Fatal(err)
	}
	if res.ExitCode == -1 || !bytes.Contains(res.Stderr, []byte("SIGQUIT")) && res.Signal != "quit" {
		t.Errorf("exit code %d, no goroutine dump: %s", res.ExitCode, res.Stderr)
	}
}

// TestDynamic boots a program that needs a loader and libraries.
func TestDynamic(t *testing.T) {
	t.Parallel()
	m := machine(t, "ok")
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("no gcc for a program with cgo: install gcc")
	}
	m.Init = filepath.Join(t.TempDir(), "dynamic")
	cmd := exec.Command("go", "build", "-o", m.Init, "./testdata/dynamic")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	f, err := elf.Open(m.Init)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if libs, err := f.ImportedLibraries(); err != nil || len(libs) == 0 {
		t.Fatalf("not dynamic: %q, %v", libs, err)
	}
	if res := mustBoot(t, m); string(res.Stdout) != "abs says 5" || res.ExitCode != 0 {
		t.Errorf("exit code %d, %q, %s", res.ExitCode, res.Stdout, res.Stderr)
	}
}

// TestOtherQEMUs boots on the QEMUs that the other tests do not use.
func TestOtherQEMUs(t *testing.T) {
	t.Parallel()
	m := machine(t, "ok")
	for _, q := range Require(t).QEMUs[1:] {
		t.Run(q.Version, func(t *testing.T) {
			m.QEMU = q
			bootOK(t, m)
		})
	}
}

// TestBzImage boots a kernel that could not be unpacked: the cache folder cannot be made.
func TestBzImage(t *testing.T) {
	m := machine(t, "ok")
	t.Setenv("GOMMU_CACHE", "/dev/null/none")
	m.KVM = KVMNever
	if res := bootOK(t, m); !strings.Contains(strings.Join(res.Command, " "), "-kernel "+m.Kernel.Image) {
		t.Errorf("another kernel was booted: %q", res.Command)
	}
}

func bootOK(t *testing.T, m Machine) *Result {
	t.Helper()
	res := mustBoot(t, m)
	t.Logf("QEMU %s, %s: program started after %v, QEMU ended after %v", m.QEMU.Version, res.Accel, res.Started, res.Elapsed)
	if string(res.Stdout) != "ok" || res.ExitCode != 0 || len(res.KernelLog) != 0 {
		t.Errorf("%+v", res)
	}
	return res
}

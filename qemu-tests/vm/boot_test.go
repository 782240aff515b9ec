package vm

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestBoot sends everything there and has everything back in one boot.
func TestBoot(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "data/sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "data/sub/in.txt"), []byte("from the host\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	args := []string{"report", "two words", "", `"quoted" 'twice' \`, "--", "-x=1", "$HOME", "ä\n\t"}
	env := []string{"SPACES=a b  c", `QUOTES="'`, "EMPTY=", "EQUALS=a=b"}
	var out bytes.Buffer
	m := machine(t, args...)
	m.Env = env
	m.Files = map[string]string{"/data": filepath.Join(dir, "data")}
	m.Fetch = map[string]string{"/tmp/big": filepath.Join(dir, "big"), "/tmp/none": filepath.Join(dir, "none")}
	m.Modules = []string{"vfio-pci", "vfio_iommu_type1 allow_unsafe_interrupts=1", "virtio_pci"}
	m.Devices = []string{"edu,addr=0x3"}
	m.Output = &out
	res := mustBoot(t, m)
	t.Logf("QEMU %s, %s: program started after %v, QEMU ended after %v", m.QEMU.Version, res.Accel, res.Started, res.Elapsed)

	if res.ExitCode != 7 {
		t.Errorf("exit code %d, want 7", res.ExitCode)
	}
	var r report
	if err := json.Unmarshal(res.Stdout, &r); err != nil {
		t.Fatalf("%v: %q", err, res.Stdout)
	}
	if d := cmp.Diff(args, r.Args); d != "" {
		t.Error("arguments:", d)
	}
	for _, e := range env {
		if !slices.Contains(r.Env, e) {
			t.Errorf("the environment lacks %q: %q", e, r.Env)
		}
	}
	if r.File != "from the host\n" {
		t.Errorf("the file reads %q", r.File)
	}
	for _, want := range []string{"vfio_pci ", "vfio_pci_core ", "vfio_iommu_type1 ", "vfio "} {
		if !strings.Contains("\n"+r.Modules, "\n"+want) {
			t.Errorf("module %snot loaded:\n%s", want, r.Modules)
		}
	}
	for _, want := range []string{" /proc ", " /sys ", " /dev ", " /tmp ", " /sys/kernel/tracing ", " /sys/kernel/debug ", " /sys/fs/bpf "} {
		if !strings.Contains(r.Mounts, want) {
			t.Errorf("%snot mounted:\n%s", want, r.Mounts)
		}
	}
	if r.PID == 1 {
		t.Error("the program is PID 1")
	}
	if string(res.Stderr) != "to stderr" {
		t.Errorf("stderr %q", res.Stderr)
	}
	if out.Len() != len(res.Stdout)+len(res.Stderr) {
		t.Errorf("Output got %d bytes, want %d", out.Len(), len(res.Stdout)+len(res.Stderr))
	}
	if b, err := os.ReadFile(filepath.Join(dir, "big")); err != nil || len(b) != bigFile || string(b) != strings.Repeat("0123456789abcdef", bigFile/16) {
		t.Errorf("fetched %d bytes, %v", len(b), err)
	}
	if !slices.Equal(res.Missing, []string{"/tmp/none"}) {
		t.Errorf("missing %q", res.Missing)
	}
	if !bytes.Contains(res.KernelLog, []byte("DMAR: IOMMU enabled")) {
		t.Errorf("the kernel log of a failed program lacks DMAR:\n%.2000s", res.KernelLog)
	}
}

package vm

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gommu/qemu-tests/provision"
)

// fakeQEMU writes a script that stands for QEMU.
func fakeQEMU(t *testing.T, script string) provision.QEMU {
	t.Helper()
	path := filepath.Join(t.TempDir(), "qemu")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return provision.QEMU{Path: path, Version: "0"}
}

// TestProbeKVM: only a guest that starts within the limit counts.
func TestProbeKVM(t *testing.T) {
	for name, c := range map[string]struct {
		script string
		want   string
	}{
		"starts":     {"echo 'Kernel panic - not syncing: VFS'", ""},
		"hangs":      {"echo booting; sleep 1000", "did not start within"},
		"crashes":    {"echo KVM internal error >&2; kill -ABRT $$", "KVM internal error"},
		"refuses":    {"echo no permission >&2; exit 1", "no permission"},
		"early exit": {"echo hello", "before its kernel had started"},
	} {
		limit := time.Minute
		if name == "hangs" {
			limit = 300 * time.Millisecond
		}
		err := Machine{QEMU: fakeQEMU(t, c.script)}.probeKVM(t.Context(), "/kernel", limit)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// TestKVMAnswer: an answer is kept for other processes until the host starts anew.
func TestKVMAnswer(t *testing.T) {
	t.Setenv("GOMMU_CACHE", t.TempDir())
	key := func(boot string) kvmKey { return kvmKey{qemu: "/q", version: "1", kernel: "/k", boot: boot} }
	if _, ok := readAnswer(key("b")); ok {
		t.Error("an answer before there is one")
	}
	for _, answer := range []error{nil, errors.New("a guest hung")} {
		writeAnswer(key("b"), answer)
		got, ok := readAnswer(key("b"))
		if !ok || (got == nil) != (answer == nil) || got != nil && got.Error() != answer.Error() {
			t.Errorf("%v, %v; want %v", got, ok, answer)
		}
		if _, ok := readAnswer(key("c")); ok {
			t.Error("the answer outlives the start of the host")
		}
	}
	writeAnswer(key("c"), nil)
	dir, err := cacheDir()
	if err != nil {
		t.Fatal(err)
	}
	if files, _ := os.ReadDir(dir); len(files) != 1 {
		t.Errorf("answers pile up: %v", files)
	}
}

// TestAccel: KVM is never used unasked where it does not work, and demanding it says why not.
func TestAccel(t *testing.T) {
	t.Setenv("GOMMU_CACHE", t.TempDir())
	m := Machine{QEMU: fakeQEMU(t, "echo broken >&2; exit 1")}
	if a, err := m.accel(t.Context(), "/kernel"); a != "tcg" || err != nil {
		t.Errorf("auto: %s, %v", a, err)
	}
	m.KVM = KVMAlways
	if _, err := m.accel(t.Context(), "/kernel"); !errors.Is(err, ErrKVM) {
		t.Errorf("always: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	m.KVM, m.QEMU.Version = KVMAuto, "1"
	if a, err := m.accel(ctx, "/kernel"); err == nil && a != "tcg" {
		t.Errorf("cancelled: %s", a)
	}
	m.KVM = KVMNever
	if a, err := m.accel(ctx, "/kernel"); a != "tcg" || err != nil {
		t.Errorf("never: %s, %v", a, err)
	}
}

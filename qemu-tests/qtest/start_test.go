//go:build linux

package qtest_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gommu/internal/held"
	"gommu/pci"
	"gommu/qemu-tests/qtest"
)

// script makes an executable that stands in for QEMU. Its descriptor 3 is the
// socket.
func script(t testing.TB, body string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "qemu")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

const (
	answerOnce = `read line <&3; echo "OK little" >&3`
	hang       = `exec sleep 1000`
)

func TestStartFails(t *testing.T) {
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, []byte("no program"), 0o644); err != nil {
		t.Fatal(err)
	}
	garbage := filepath.Join(t.TempDir(), "garbage")
	if err := os.WriteFile(garbage, []byte("no program"), 0o755); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name string
		cfg  qtest.Config
		want error
		text string
	}{
		{"no path", qtest.Config{}, qtest.ErrConfig, "Config.QEMU is empty"},
		{"memory", qtest.Config{QEMU: "x", Memory: 1}, qtest.ErrConfig, "multiple of 2 MiB"},
		{"much memory", qtest.Config{QEMU: "x", Memory: 4 << 30}, qtest.ErrConfig, "at most 2 GiB"},
		{"width", qtest.Config{QEMU: "x", AddressWidth: 57}, qtest.ErrConfig, "39 or 48"},
		{"timeout", qtest.Config{QEMU: "x", Timeout: -1}, qtest.ErrConfig, "negative"},
		{"missing", qtest.Config{QEMU: "/nonexistent/qemu"}, qtest.ErrNoQEMU, "gommu setup"},
		{"missing", qtest.Config{QEMU: "/nonexistent/qemu"}, fs.ErrNotExist, "GOMMU_QEMU"},
		{"not executable", qtest.Config{QEMU: plain}, fs.ErrPermission, "gommu setup"},
		{"no program", qtest.Config{QEMU: garbage}, qtest.ErrNoQEMU, "exec format error"},
		{"exits", qtest.Config{QEMU: script(t, `echo some reason >&2; exit 3`)}, qtest.ErrExited, "exit status 3: QEMU says: some reason"},
		{"silent", qtest.Config{QEMU: script(t, hang), Timeout: 50 * time.Millisecond}, qtest.ErrTimeout, "50ms"},
		{"nonsense", qtest.Config{QEMU: script(t, `echo hello >&3; `+hang)}, qtest.ErrProtocol, `"hello"`},
		{"refusal", qtest.Config{QEMU: script(t, `read line <&3; echo "FAIL no" >&3; `+hang)}, qtest.ErrProtocol, `"FAIL no"`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			before := resources(t)
			m, err := qtest.Start(t.Context(), c.cfg)
			if m != nil || !errors.Is(err, c.want) || !strings.Contains(fmt.Sprint(err), c.text) {
				t.Errorf("got %v, want %v with %q", err, c.want, c.text)
			}
			if _, ok := errors.AsType[*qtest.OpError](err); !ok {
				t.Errorf("%T is no *qtest.OpError", err)
			}
			held.Check(t, before)
		})
	}
}

func TestStartCancelled(t *testing.T) {
	before := resources(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := qtest.Start(ctx, qtest.Config{QEMU: script(t, hang)})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if _, err := qtest.Start(ctx, qtest.Config{QEMU: script(t, hang)}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with a context that has ended: %v", err)
	}
	held.Check(t, before)
}

func TestBadOption(t *testing.T) {
	for _, qemu := range qemus(t) {
		for _, cfg := range []qtest.Config{
			{QEMU: qemu.Path, Devices: []string{"no-such-device"}},
			{QEMU: qemu.Path, Devices: []string{"edu,nonsense=1"}},
			{QEMU: qemu.Path, IOMMU: "nonsense=on"},
		} {
			_, err := qtest.Start(t.Context(), cfg)
			if !errors.Is(err, qtest.ErrExited) || !strings.Contains(fmt.Sprint(err), "no") || !strings.Contains(fmt.Sprint(err), "Config.Devices") {
				t.Errorf("got %v", err)
			}
		}
	}
}

// TestExitReported lets QEMU end between two requests.
func TestExitReported(t *testing.T) {
	m, err := qtest.Start(t.Context(), qtest.Config{QEMU: script(t, answerOnce+`; read line <&3; echo the reason >&2; exit 3`)})
	if err != nil {
		t.Fatal(err)
	}
	if got := m.Read(0, 4); got != 0xffff_ffff {
		t.Errorf("a QEMU that is gone reads as %#x", got)
	}
	if got := m.IOMMU().Read64(8); got != ^uint64(0) {
		t.Errorf("a QEMU that is gone reads as %#x", got)
	}
	m.IOMMU().Write32(0, 1)
	sticky := m.Err()
	if !errors.Is(sticky, qtest.ErrExited) || !strings.Contains(sticky.Error(), "the reason") {
		t.Errorf("sticky error %v", sticky)
	}
	if _, err := m.PCI(pci.Address{Device: 3}); err != sticky {
		t.Errorf("opening a function gives %v", err)
	}
	if err := m.Close(); !errors.Is(err, qtest.ErrExited) {
		t.Errorf("close reports %v", err)
	}
	if err := m.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
}

// TestCloseAtOnce: of several that close a machine, one is told how it ended.
func TestCloseAtOnce(t *testing.T) {
	m, err := qtest.Start(t.Context(), qtest.Config{QEMU: script(t, answerOnce+`; exit 3`)})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "QEMU is gone", func() bool { m.Read(0, 4); return m.Err() != nil })
	errs := make(chan error, 8)
	for range cap(errs) {
		go func() { errs <- m.Close() }()
	}
	told := 0
	for range cap(errs) {
		if err := <-errs; errors.Is(err, qtest.ErrExited) {
			told++
		} else if err != nil {
			t.Error(err)
		}
	}
	if told != 1 {
		t.Errorf("%d were told, want 1", told)
	}
}

func TestAfterClose(t *testing.T) {
	m, err := qtest.Start(t.Context(), qtest.Config{QEMU: script(t, answerOnce+"; "+hang)})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if got := m.Read(0, 8); got != ^uint64(0) || !errors.Is(m.Err(), qtest.ErrClosed) {
		t.Errorf("a closed machine reads as %#x, %v", got, m.Err())
	}
}

func TestWindowBounds(t *testing.T) {
	m, err := qtest.Start(t.Context(), qtest.Config{QEMU: script(t, answerOnce+"; "+hang)})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	w := m.IOMMU()
	for _, f := range []func(){
		func() { w.Read32(w.Size()) },
		func() { w.Read32(2) },
		func() { w.Read64(w.Size() - 4) },
		func() { w.Write64(4, 0) },
		func() { w.Write32(^uint64(3), 0) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("an access outside the window did not panic")
				}
			}()
			f()
		}()
	}
	if m.Read(0, 3) != ^uint64(0) {
		t.Error("a width of 3 bytes read something")
	}
}

// eventually waits for something that takes an unknown time.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for range 2000 {
		if f() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("waited in vain: %s", what)
}

package provision

import (
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// A damaged file is named by Verify, kept from use by Find when its size shows it, and repaired by Setup.
func TestRepair(t *testing.T) {
	t.Parallel()
	flip := func(path string) error {
		b, err := os.ReadFile(path)
		if err == nil {
			b[len(b)/2] ^= 1
			err = os.WriteFile(path, b, 0o644)
		}
		return err
	}
	truncate := func(path string) error { return os.Truncate(path, 1) }
	first := newMirror(t, standardArchive(t))
	original := machine(t, first.URL)
	mustSetup(t, original)
	for _, test := range []struct {
		name, file string
		damage     func(path string) error
		seen       bool // by Find
	}{
		{"truncated library", "qemu-7.2.22/root/usr/lib/x86_64-linux-gnu/libc.so.6", truncate, true},
		{"missing module", "kernel-" + testRelease + "/root/usr/lib/modules/" + testRelease + "/kernel/vfio.ko.xz", os.Remove, true},
		{"flipped bit", "kernel-" + testRelease + "/root/boot/vmlinuz-" + testRelease, flip, false},
		{"flipped bit in the newer QEMU", "qemu-backports-10.0.2/root/usr/bin/qemu-system-x86_64", flip, false},
		{"flipped bit in the newer kernel", "kernel-next-" + nextRelease + "/root/boot/vmlinuz-" + nextRelease, flip, false},
		{"manifest of the newer kernel gone", "kernel-next-" + nextRelease + "/manifest.json", os.Remove, true},
		{"module of the newer kernel gone", "kernel-next-" + nextRelease + "/root/usr/lib/modules/" + nextRelease + "/kernel/vfio.ko.xz", os.Remove, true},
		{"lost permission", "qemu-7.2.22/bin/qemu-system-x86_64", func(path string) error { return os.Chmod(path, 0o600) }, true},
		{"manifest cut", "qemu-7.2.22/manifest.json", truncate, true},
		{"manifest gone", "kernel-" + testRelease + "/manifest.json", os.Remove, true},
		{"link to elsewhere", "qemu-7.2.22/root/usr/share/qemu/bios.bin", func(path string) error {
			return errors.Join(os.Remove(path), os.Symlink("/etc/passwd", path))
		}, false},
		{"file for a link", "qemu-7.2.22/root/usr/share/qemu/bios.bin", func(path string) error {
			return errors.Join(os.Remove(path), os.WriteFile(path, []byte("bios"), 0o644))
		}, true},
		{"link for a file", "qemu-7.2.22/root/usr/share/qemu/vgabios.bin", func(path string) error {
			return errors.Join(os.Remove(path), os.Symlink("/etc/passwd", path))
		}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m := newMirror(t, standardArchive(t))
			opts := machine(t, m.URL)
			if out, err := exec.Command("cp", "-a", original.Cache, opts.Cache).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			path := filepath.Join(opts.Cache, layout, test.file)
			check(t, test.damage(path))

			if err := Verify(t.Context(), opts); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), path) {
				t.Errorf("Verify: %v", err)
			}
			in, err := Find(opts)
			next := strings.HasPrefix(test.file, "kernel-next")
			kernel := strings.HasPrefix(test.file, "kernel") && !next
			switch {
			case !test.seen:
				check(t, err)
			case kernel && (!errors.Is(err, ErrNoKernel) || !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), path)):
				t.Errorf("Find: %v", err)
			case next && (err != nil || len(in.Kernels) != 1 || len(in.Notes) != 1 || !strings.Contains(in.Notes[0], path)):
				t.Errorf("Find: %+v, %v", in, err)
			case !kernel && !next && (err != nil || len(in.QEMUs) != 1 || len(in.Notes) != 1 || !strings.Contains(in.Notes[0], path)):
				t.Errorf("Find: %+v, %v", in, err)
			}

			// A repair that fails changes nothing.
			before := len(snapshot(t, opts))
			m.misbehave(func(http.ResponseWriter, string, []byte) bool { panic(http.ErrAbortHandler) })
			if _, err := Setup(t.Context(), opts); !errors.Is(err, ErrNetwork) {
				t.Errorf("without network: %v", err)
			}
			if n := len(snapshot(t, opts)); n != before {
				t.Errorf("%d paths, were %d", n, before)
			}
			m.behave()
			debs := m.debs.Load()
			mustSetup(t, opts)
			whole(t, opts)
			if n := m.debs.Load() - debs; n != 1 && kernel || n > 4 {
				t.Errorf("%d packages were fetched for the repair", n)
			}
		})
	}
}

// Whatever step fails, the error says why, nothing half-done is left, and the next Setup works.
func TestSetupFailNth(t *testing.T) {
	t.Parallel()
	m := newMirror(t, standardArchive(t))
	opts := machine(t, m.URL)
	var steps []string
	opts.host.fault = func(step string) error {
		steps = append(steps, step)
		return nil
	}
	mustSetup(t, opts)
	for i, step := range steps {
		if step == "create file" && i > 0 && steps[i-1] == step {
			continue // one of several alike
		}
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			opts := machine(t, m.URL)
			n := 0
			opts.host.fault = func(string) error {
				if n++; n == i+1 {
					return syscall.ENOSPC
				}
				return nil
			}
			_, err := Setup(t.Context(), opts)
			if !errors.Is(err, ErrNoSpace) || !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("step %d, %s: %v", i, step, err)
			}
			consistent(t, opts)
			if i%8 == 0 { // the same code whatever failed: some will do
				opts.host.fault = nil
				mustSetup(t, opts)
				whole(t, opts)
			}
		})
	}
}

// When a unit cannot be put in another's place, the other comes back.
func TestReplaceFails(t *testing.T) {
	t.Parallel()
	m := newMirror(t, standardArchive(t))
	opts := machine(t, m.URL)
	mustSetup(t, opts)
	opts.Force = true
	opts.host.fault = func(step string) error {
		if step == "rename" {
			return syscall.EIO
		}
		return nil
	}
	if _, err := Setup(t.Context(), opts); !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	whole(t, opts)
}

func TestSetupForce(t *testing.T) {
	t.Parallel()
	m := newMirror(t, standardArchive(t))
	opts := machine(t, m.URL)
	qemu := filepath.Join(t.TempDir(), "qemu")
	check(t, os.WriteFile(qemu, []byte(fakeQEMU("9.9.9")), 0o755))
	opts.host.getenv = func(name string) string { return map[string]string{envQEMU: qemu}[name] }
	first := mustSetup(t, opts)
	if len(first.QEMUs) != 1 || first.QEMUs[0].Version != "9.9.9" || !slices.Equal(entries(t, opts), allUnits[:2]) {
		t.Fatalf("%+v, cache %v", first, entries(t, opts))
	}

	// A newer kernel takes the older one's place, the same one its own.
	a := archive{}
	pkgs := basePackages()[4:]
	for i := range pkgs {
		pkgs[i].version = "6.12.200-1"
		pkgs[i].name = strings.ReplaceAll(pkgs[i].name, "117", "200")
		pkgs[i].depends = strings.ReplaceAll(pkgs[i].depends, "117", "200")
		for j := range pkgs[i].files {
			pkgs[i].files[j].name = strings.ReplaceAll(pkgs[i].files[j].name, "117", "200")
		}
	}
	a.suite(t, "alpha", pkgs)
	m.Close()
	newer := newMirror(t, a)
	fresh := machine(t, newer.URL)
	opts.host.root, opts.Force = fresh.host.root, true
	for range 2 {
		in := mustSetup(t, opts)
		if want := strings.ReplaceAll(testRelease, "117", "200"); in.Kernel.Release != want || !slices.Equal(entries(t, opts), []string{"kernel-" + want, "kernel-next-none"}) {
			t.Fatalf("%+v, cache %v", in, entries(t, opts))
		}
		check(t, Verify(t.Context(), opts))
	}
	if n := newer.debs.Load(); n != 2 {
		t.Errorf("%d packages were fetched, not 2", n)
	}
}

func TestStaleStaging(t *testing.T) {
	t.Parallel()
	m := newMirror(t, standardArchive(t))
	opts := machine(t, m.URL)
	stale := filepath.Join(opts.Cache, layout, stagingPrefix+"123/kernel/root")
	check(t, os.MkdirAll(stale, 0o755))
	check(t, os.WriteFile(filepath.Join(stale, "file"), nil, 0o444))
	mustSetup(t, opts)
	whole(t, opts)
}

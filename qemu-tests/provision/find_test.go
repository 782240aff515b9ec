package provision

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// kernelOverride makes a kernel with modules and returns the variables that name them.
func kernelOverride(t testing.TB) map[string]string {
	t.Helper()
	dir := t.TempDir()
	modules := filepath.Join(dir, "lib/modules/6.6.6-test")
	image := filepath.Join(dir, "bzImage")
	if err := os.MkdirAll(modules, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(image, bzImage("6.6.6-test"), 0o644); err != nil {
		t.Fatal(err)
	}
	return map[string]string{envKernel: image, envModules: modules}
}

// bzImage makes the head of a kernel image of that release.
func bzImage(release string) []byte {
	b := make([]byte, 0x400)
	copy(b[0x202:], "HdrS")
	binary.LittleEndian.PutUint16(b[0x20e:], 0x100)
	copy(b[0x300:], release+" (someone@somewhere) #1 SMP\x00")
	return b
}

// bare is a machine with nothing on it.
func bare(t testing.TB, env map[string]string) Options {
	return Options{
		Cache: filepath.Join(t.TempDir(), "cache"),
		host: host{
			getenv:   func(name string) string { return env[name] },
			lookPath: func(string) (string, error) { return "", exec.ErrNotFound },
		},
	}
}

func TestFindNothing(t *testing.T) {
	opts := bare(t, nil)
	_, err := FindQEMU(opts)
	if !errors.Is(err, ErrNoQEMU) || !strings.Contains(err.Error(), "gommu setup") || !strings.Contains(err.Error(), envQEMU) {
		t.Errorf("QEMU: %v", err)
	}
	_, err = FindKernel(opts)
	if !errors.Is(err, ErrNoKernel) || !strings.Contains(err.Error(), "gommu setup") || !strings.Contains(err.Error(), envModules) {
		t.Errorf("kernel: %v", err)
	}
	if _, err := Find(opts); !errors.Is(err, ErrNoQEMU) {
		t.Errorf("both: %v", err)
	}
	if err := Verify(t.Context(), opts); err != nil {
		t.Errorf("verify: %v", err)
	}
	if _, err := os.Stat(opts.Cache); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Find wrote: %v", err)
	}
}

func TestFindKernelOverride(t *testing.T) {
	good := kernelOverride(t)
	other := kernelOverride(t)
	if err := os.WriteFile(other[envKernel], bzImage("5.5.5"), 0o644); err != nil {
		t.Fatal(err)
	}
	elf := filepath.Join(t.TempDir(), "6.6.6-test")
	if err := os.WriteFile(elf, []byte("\x7fELF"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, image, modules string
		blames               string // the variable that the error names; empty: no error
	}{
		{"both", good[envKernel], good[envModules], ""},
		{"no bzImage", elf, good[envModules], ""},
		{"no image", "", good[envModules], envKernel},
		{"no modules", good[envKernel], "", envModules},
		{"image gone", good[envKernel] + "x", good[envModules], envKernel},
		{"image is a folder", good[envModules], good[envModules], envKernel},
		{"modules gone", good[envKernel], good[envModules] + "x", envModules},
		{"modules are a file", good[envKernel], elf, envModules},
		{"of different releases", other[envKernel], good[envModules], envModules},
	} {
		k, err := FindKernel(bare(t, map[string]string{envKernel: test.image, envModules: test.modules}))
		if test.blames == "" {
			if want := (Kernel{test.image, test.modules, "6.6.6-test"}); err != nil || k != want {
				t.Errorf("%s: %+v, %v", test.name, k, err)
			}
			continue
		}
		var e *Error
		if !errors.Is(err, ErrOverride) || !errors.As(err, &e) || e.Name != test.blames || !strings.Contains(e.Remedy, test.blames) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

// putUnit puts a unit without files into the cache of opts.
func putUnit(t testing.TB, opts Options, m manifest) {
	t.Helper()
	dir := filepath.Join(opts.Cache, layout, string(m.Role)+"-"+m.Version)
	text, err := json.Marshal(m)
	if err := errors.Join(err, os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, manifestName), text, 0o644)); err != nil {
		t.Fatal(err)
	}
}

// Whatever kernels there are, they are listed newest first, the default is the distribution's, and what there is not is a note.
func TestFindKernels(t *testing.T) {
	for _, test := range []struct {
		name      string
		own, next string // releases
		absent    string
		env       map[string]string
		kernel    string // the default; empty: none
		kernels   []string
	}{
		{name: "both", own: "6.12.117+deb12-amd64", next: "7.2.12+deb14-amd64", kernel: "6.12.117+deb12-amd64",
			kernels: []string{"7.2.12+deb14-amd64", "6.12.117+deb12-amd64"}},
		{name: "by value", own: "6.12.9", next: "6.12.10", kernel: "6.12.9", kernels: []string{"6.12.10", "6.12.9"}},
		{name: "own is newer", own: "7.10.1", next: "7.2.12", kernel: "7.10.1", kernels: []string{"7.10.1", "7.2.12"}},
		{name: "none of the next release", own: "6.12.9", next: "none", absent: "no suite", kernel: "6.12.9", kernels: []string{"6.12.9"}},
		{name: "never asked for", own: "6.12.9", kernel: "6.12.9", kernels: []string{"6.12.9"}},
		{name: "the next release's alone", next: "7.2.12"},
		{name: "override", own: "6.12.9", next: "7.2.12", env: kernelOverride(t), kernel: "6.6.6-test", kernels: []string{"6.6.6-test"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			opts := bare(t, test.env)
			putUnit(t, opts, manifest{Role: roleQEMU, Version: "7.2.22"})
			for r, release := range map[role]string{roleKernel: test.own, roleNext: test.next} {
				m := manifest{Role: r, Version: release, Kernel: &kernelPart{Image: "image", Modules: "modules"}}
				if release == "none" {
					m.Absent, m.Kernel = test.absent, nil
				}
				if release != "" {
					putUnit(t, opts, m)
				}
			}
			kernels, err := FindKernels(opts)
			in, findErr := Find(opts)
			if test.kernel == "" {
				if !errors.Is(err, ErrNoKernel) || !errors.Is(findErr, ErrNoKernel) {
					t.Fatalf("%v, %v, want ErrNoKernel twice", err, findErr)
				}
				return
			}
			if err := errors.Join(err, findErr); err != nil {
				t.Fatal(err)
			}
			var releases []string
			for _, k := range kernels {
				releases = append(releases, k.Release)
			}
			if diff := cmp.Diff(test.kernels, releases); diff != "" {
				t.Errorf("kernels (-want +got):\n%s", diff)
			}
			if in.Kernel.Release != test.kernel || !slices.Equal(in.Kernels, kernels) || !slices.Contains(kernels, in.Kernel) {
				t.Errorf("Find: %+v, FindKernels: %+v", in, kernels)
			}
			if notes := strings.Join(in.Notes, "\n"); test.absent == "" && notes != "" || !strings.Contains(notes, test.absent) {
				t.Errorf("notes %q, want %q", notes, test.absent)
			}
		})
	}
}

func TestFindQEMUOverride(t *testing.T) {
	dir := t.TempDir()
	script := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	old := script("old", "echo 'QEMU emulator version 7.2.22 (Debian 1:7.2)'\n")
	newer := script("new", "echo QEMU emulator version 10.0.2\n")
	fails := script("fails", "echo no such library >&2; exit 127\n")
	other := script("other", "echo hello\n")
	if _, err := exec.Command(old).Output(); err != nil {
		t.Skipf("shell scripts cannot be run here: %v", err)
	}

	got, err := FindQEMU(bare(t, map[string]string{envQEMU: old + ":" + newer}))
	if err != nil || len(got) != 2 || got[0] != (QEMU{newer, "10.0.2"}) || got[1] != (QEMU{old, "7.2.22"}) {
		t.Errorf("two: %+v, %v", got, err)
	}
	for list, says := range map[string]string{
		old + ":" + dir + "/gone": "gone",
		fails:                     "no such library",
		other:                     "is no QEMU",
		dir:                       dir,
	} {
		_, err := FindQEMU(bare(t, map[string]string{envQEMU: list}))
		if !errors.Is(err, ErrOverride) || !strings.Contains(err.Error(), envQEMU) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", list, err)
		}
	}

	// What was replaced is asked again.
	script("old", "echo 'QEMU emulator version 8.0.0 replaced'\n")
	if got, err := FindQEMU(bare(t, map[string]string{envQEMU: old})); err != nil || got[0].Version != "8.0.0" {
		t.Errorf("replaced: %+v, %v", got, err)
	}

	opts := bare(t, nil)
	opts.host.lookPath = func(string) (string, error) { return newer, nil }
	if got, err := FindQEMU(opts); err != nil || len(got) != 1 || got[0] != (QEMU{newer, "10.0.2"}) {
		t.Errorf("PATH: %+v, %v", got, err)
	}
}

func TestCacheFolder(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", "/somewhere")
	for _, test := range []struct {
		opts Options
		want string
	}{
		{Options{}, "/somewhere/gommu/v1"},
		{Options{host: host{getenv: func(string) string { return "/else/where" }}}, "/else/where/v1"},
		{Options{Cache: "/mine", host: host{getenv: func(string) string { return "/else/where" }}}, "/mine/v1"},
	} {
		if test.opts.host.getenv == nil {
			test.opts.host.getenv = func(string) string { return "" }
		}
		if c, err := test.opts.cache(); err != nil || c.dir != test.want {
			t.Errorf("%q, %v, want %q", c.dir, err, test.want)
		}
	}
	t.Setenv("XDG_CACHE_HOME", "")
	t.Setenv("HOME", "")
	opts := bare(t, nil)
	opts.Cache = ""
	if _, err := Find(opts); err == nil || !strings.Contains(err.Error(), envCache) {
		t.Errorf("no home: %v", err)
	}
}

// A program that somebody still has open for writing is tried again: a child forked by another goroutine does that.
func TestAskVersionBusy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "qemu")
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("#!/bin/sh\necho QEMU emulator version 1.2.3\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skipf("there is no shell: %v", err)
	}
	time.AfterFunc(50*time.Millisecond, func() { f.Close() })
	if got, err := askVersion(path); err != nil || got != "1.2.3" {
		t.Errorf("%q, %v", got, err)
	}
}

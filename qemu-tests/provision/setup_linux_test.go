package provision

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// snapshot returns every path of the cache with its size and time.
func snapshot(t testing.TB, opts Options) map[string]string {
	t.Helper()
	seen := map[string]string{}
	err := filepath.WalkDir(opts.Cache, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && path == opts.Cache {
			return nil
		}
		if err != nil {
			return err
		}
		st, err := d.Info()
		if err == nil {
			seen[path] = st.Mode().String() + st.ModTime().String()
		}
		return err
	})
	check(t, err)
	return seen
}

// entries returns the names in the cache, without the lock.
func entries(t testing.TB, opts Options) []string {
	t.Helper()
	list, err := os.ReadDir(filepath.Join(opts.Cache, layout))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		if e.Name() != "lock" {
			names = append(names, e.Name())
		}
	}
	return names
}

var allUnits = []string{"kernel-" + testRelease, "kernel-next-" + nextRelease, "qemu-7.2.22", "qemu-backports-10.0.2"}

// whole fails the test unless the cache holds all units, undamaged, and nothing else.
func whole(t testing.TB, opts Options) {
	t.Helper()
	if diff := cmp.Diff(allUnits, entries(t, opts)); diff != "" {
		t.Fatalf("cache (-want +got):\n%s", diff)
	}
	check(t, Verify(t.Context(), opts))
	in, err := Find(opts)
	check(t, err)
	if len(in.QEMUs) != 2 || in.QEMUs[0].Version != "10.0.2" || in.QEMUs[1].Version != "7.2.22" || in.Kernel.Release != testRelease ||
		len(in.Kernels) != 2 || in.Kernels[0].Release != nextRelease || in.Kernels[1] != in.Kernel {
		t.Fatalf("found %+v", in)
	}
}

// consistent fails the test if anything half-done is in the cache.
func consistent(t testing.TB, opts Options) {
	t.Helper()
	for _, name := range entries(t, opts) {
		if !slices.Contains(allUnits, name) {
			t.Errorf("%s is left behind", name)
		}
	}
	if err := Verify(t.Context(), opts); err != nil {
		t.Error(err)
	}
}

func mustSetup(t testing.TB, opts Options) Installed {
	t.Helper()
	in, err := Setup(t.Context(), opts)
	check(t, err)
	return in
}

func TestSetup(t *testing.T) {
	t.Parallel()
	m := newMirror(t, standardArchive(t))
	opts := machine(t, m.URL)
	if _, err := Find(opts); !errors.Is(err, ErrNoQEMU) {
		t.Fatalf("Find in an empty cache: %v", err)
	}
	in := mustSetup(t, opts)
	whole(t, opts)
	if len(in.Notes) > 0 {
		t.Errorf("notes: %q", in.Notes)
	}
	for _, path := range []string{in.Kernel.Image, filepath.Join(in.Kernel.Modules, "kernel/vfio.ko.xz"), filepath.Join(in.Kernel.Modules, "modules.order")} {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
	if filepath.Base(in.Kernel.Modules) != testRelease {
		t.Errorf("modules in %s", in.Kernel.Modules)
	}

	// A second time nothing is fetched and nothing changes.
	requests, before := m.requests.Load(), snapshot(t, opts)
	m.Close()
	again := mustSetup(t, opts)
	if diff := cmp.Diff(in, again); diff != "" {
		t.Errorf("second setup (-first +second):\n%s", diff)
	}
	if diff := cmp.Diff(before, snapshot(t, opts)); diff != "" {
		t.Errorf("second setup changed the cache:\n%s", diff)
	}
	if n := m.requests.Load(); n != requests {
		t.Errorf("second setup sent %d requests", n-requests)
	}
}

// Who needs no kernel fetches none, and gets one later all the same.
func TestSetupNoKernel(t *testing.T) {
	t.Parallel()
	opts := machine(t, newMirror(t, standardArchive(t)).URL)
	opts.NoKernel = true
	in := mustSetup(t, opts)
	if len(in.QEMUs) != 2 || in.Kernel != (Kernel{}) || in.Kernels != nil {
		t.Errorf("found %+v, want two QEMUs and no kernel", in)
	}
	if diff := cmp.Diff(allUnits[2:], entries(t, opts)); diff != "" {
		t.Errorf("cache (-want +got):\n%s", diff)
	}
	opts.NoKernel = false
	if _, err := Find(opts); !errors.Is(err, ErrNoKernel) {
		t.Errorf("error %v, want ErrNoKernel", err)
	}
	mustSetup(t, opts)
	whole(t, opts)
}

func TestSetupKeepsOnlyWhatIsNeeded(t *testing.T) {
	t.Parallel()
	m := newMirror(t, standardArchive(t))
	opts := machine(t, m.URL)
	mustSetup(t, opts)
	u, err := openUnit(filepath.Join(opts.Cache, layout, "qemu-7.2.22"))
	check(t, err)
	var got []string
	for _, f := range u.Files {
		line := f.Path
		if f.Link != "" {
			line += " -> " + f.Link
		}
		got = append(got, line)
	}
	want := []string{
		"bin/qemu-system-x86_64",
		"root/usr/bin/qemu-system-x86_64",
		"root/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
		"root/usr/lib/x86_64-linux-gnu/libc.so.6",
		"root/usr/lib/x86_64-linux-gnu/pulseaudio/libpulse.so.0",
		"root/usr/lib/x86_64-linux-gnu/qemu/accel.so",
		"root/usr/lib64/ld-linux-x86-64.so.2 -> ../lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
		"root/usr/share/qemu/bios.bin -> ../seabios/bios.bin",
		"root/usr/share/qemu/vgabios.bin",
		"root/usr/share/seabios/bios.bin",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files of QEMU (-want +got):\n%s", diff)
	}
	if b, err := os.ReadFile(filepath.Join(u.dir, "root/usr/share/qemu/bios.bin")); err != nil || string(b) != "bios" {
		t.Errorf("through the link: %q, %v", b, err)
	}
	var names []string
	for _, p := range u.Packages {
		names = append(names, p.Name+" "+p.Version)
		if len(p.SHA256) != 64 || p.Size <= 0 {
			t.Errorf("package %+v", p)
		}
	}
	slices.Sort(names)
	if diff := cmp.Diff([]string{"libc6 2.36", "qemu-system-data 1:7.2+t-1", "qemu-system-x86 1:7.2+t-1", "seabios 1.16"}, names); diff != "" {
		t.Errorf("packages (-want +got):\n%s", diff)
	}
	k, err := openUnit(filepath.Join(opts.Cache, layout, "kernel-"+testRelease))
	check(t, err)
	if len(k.Packages) != 1 || len(k.Files) != 4 {
		t.Errorf("kernel: packages %v, files %v", k.Packages, k.Files)
	}
	st, err := os.Stat(filepath.Join(k.dir, k.Kernel.Image))
	check(t, err)
	config, err := os.Stat(filepath.Join(k.dir, "root/boot/config-"+testRelease))
	check(t, err)
	if st.Mode() != config.Mode() {
		t.Errorf("the image has mode %v, which Ubuntu closes to users, and not %v", st.Mode(), config.Mode())
	}
}

func TestWrapperRunsFromAnywhere(t *testing.T) {
	t.Parallel()
	m := newMirror(t, standardArchive(t))
	opts := machine(t, m.URL)
	in := mustSetup(t, opts)
	moved := filepath.Join(t.TempDir(), "moved here")
	check(t, os.Rename(filepath.Dir(filepath.Dir(in.QEMUs[1].Path)), moved))
	link := filepath.Join(t.TempDir(), "link")
	check(t, os.Symlink(filepath.Join(moved, wrapperPath), link))
	for _, call := range []struct{ dir, path string }{
		{"/", filepath.Join(moved, wrapperPath)},
		{"/", link},
		{filepath.Join(moved, "bin"), "./" + qemuName},
		{moved, "bin/" + qemuName},
	} {
		cmd := exec.Command(call.path, "-m", "64 M")
		cmd.Dir = call.dir
		out, err := cmd.CombinedOutput()
		check(t, err)
		root := moved + "/root/usr/"
		want := "QEMU emulator version 7.2.22 (test)\n-L " + root + "share/qemu -L " + root + "share/seabios -L " + root + "lib/ipxe/qemu -m 64 M\n"
		if string(out) != want {
			t.Errorf("%v: %s\nwant %s", call, out, want)
		}
	}
}

// A mirror that misbehaves makes Setup fail with its reason; nothing is left; when the mirror is well again, Setup works.
func TestSetupFailures(t *testing.T) {
	t.Parallel()
	deb := func(path string) bool { return strings.HasSuffix(path, ".deb") }
	half := func(w http.ResponseWriter, b []byte) {
		w.Header().Set("Content-Length", strconv.Itoa(len(b)))
		_, _ = w.Write(b[:len(b)/2])
		panic(http.ErrAbortHandler)
	}
	flipped := func(w http.ResponseWriter, b []byte) {
		b = slices.Clone(b)
		b[len(b)/2] ^= 1
		_, _ = w.Write(b)
	}
	for _, test := range []struct {
		name    string
		trouble func(w http.ResponseWriter, path string, b []byte) bool
		want    error
	}{
		{"download cut in half", func(w http.ResponseWriter, path string, b []byte) bool {
			if deb(path) {
				half(w, b)
			}
			return false
		}, ErrNetwork},
		{"last download cut in half", func(w http.ResponseWriter, path string, b []byte) bool {
			if strings.Contains(path, "qemu-system-x86_1%3a10.0") {
				half(w, b)
			}
			return false
		}, ErrNetwork},
		{"corrupted package", func(w http.ResponseWriter, path string, b []byte) bool {
			if deb(path) {
				flipped(w, b)
			}
			return deb(path)
		}, ErrHash},
		{"corrupted index", func(w http.ResponseWriter, path string, b []byte) bool {
			index := strings.HasSuffix(path, "alpha/main/binary-amd64/Packages")
			if index {
				flipped(w, b)
			}
			return index
		}, ErrHash},
		{"package gone", func(w http.ResponseWriter, path string, _ []byte) bool {
			if deb(path) {
				w.WriteHeader(http.StatusNotFound)
			}
			return deb(path)
		}, ErrNetwork},
		{"no release", func(w http.ResponseWriter, path string, _ []byte) bool {
			w.WriteHeader(http.StatusNotFound)
			return true
		}, ErrNetwork},
		{"server in trouble", func(w http.ResponseWriter, path string, _ []byte) bool {
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}, ErrNetwork},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m := newMirror(t, standardArchive(t))
			opts := machine(t, m.URL)
			m.misbehave(test.trouble)
			in, err := Setup(t.Context(), opts)
			if !errors.Is(err, test.want) {
				t.Fatalf("got %+v, error %v, want %v", in, err, test.want)
			}
			var e *Error
			if !errors.As(err, &e) || e.Remedy == "" {
				t.Errorf("no remedy: %v", err)
			}
			consistent(t, opts)
			m.behave()
			mustSetup(t, opts)
			whole(t, opts)
		})
	}
}

// While an archive does not answer apt is run three times, and asks itself no more often; when it has nothing to give, once.
func TestFetchAgain(t *testing.T) {
	t.Parallel()
	const index, pkg = "alpha/main/binary-amd64/Packages", "seabios_"
	for _, test := range []struct {
		name   string
		file   string // the one that is in trouble
		status int    // what is answered; 0: half of the file
		times  int64  // how often
		runs   int    // of apt-get that end in trouble
		want   error
	}{
		{"index once", index, 0, 2, 1, nil},
		{"index for ever", index, 0, 99, 3, ErrNetwork},
		{"package once", pkg, 0, 2, 1, nil},
		{"package for ever", pkg, 0, 99, 3, ErrNetwork},
		{"package gone", pkg, http.StatusNotFound, 99, 1, ErrNetwork},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m := newMirror(t, standardArchive(t))
			opts := machine(t, m.URL)
			opts.NoKernel = true
			var trouble atomic.Int64
			runs, last := 0, int64(0)
			opts.host.fault = func(step string) error {
				if n := trouble.Load(); n > last {
					last, runs = n, runs+1
				}
				return nil
			}
			m.misbehave(func(w http.ResponseWriter, path string, b []byte) bool {
				if !strings.Contains(path, test.file) || trouble.Load() >= test.times {
					return false
				}
				trouble.Add(1)
				if test.status != 0 {
					w.WriteHeader(test.status)
					return true
				}
				w.Header().Set("Content-Length", strconv.Itoa(len(b)))
				_, _ = w.Write(b[:len(b)/2])
				panic(http.ErrAbortHandler)
			})
			_, err := Setup(t.Context(), opts)
			if !errors.Is(err, test.want) {
				t.Errorf("error %v, want %v", err, test.want)
			}
			_ = opts.host.fault("the end")
			// apt's http method takes a transfer that broke off up again by itself.
			if n := trouble.Load(); runs != test.runs || n > 3*int64(runs) {
				t.Errorf("%d runs ended in trouble, want %d; %d requests", runs, test.runs, n)
			}
			consistent(t, opts)
		})
	}
}

// Between two attempts Setup waits, and not when it was cancelled.
func TestFetchPause(t *testing.T) {
	t.Parallel()
	m := newMirror(t, standardArchive(t))
	opts := machine(t, m.URL)
	opts.host.noPause = false
	ctx, cancel := context.WithCancel(t.Context())
	m.misbehave(func(w http.ResponseWriter, path string, _ []byte) bool {
		cancel()
		panic(http.ErrAbortHandler)
	})
	if _, err := Setup(ctx, opts); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
	if d := opts.host.pause(fetchPause); d != fetchPause {
		t.Errorf("pauses for %v, want %v", d, fetchPause)
	}
	consistent(t, opts)
}

func TestSetupServerGone(t *testing.T) {
	t.Parallel()
	m := newMirror(t, standardArchive(t))
	opts := machine(t, m.URL)
	m.Close()
	if _, err := Setup(t.Context(), opts); !errors.Is(err, ErrNetwork) {
		t.Fatal(err)
	}
	consistent(t, opts)
}

func TestSetupUntrusted(t *testing.T) {
	t.Parallel()
	m := newMirror(t, standardArchive(t))
	opts := machine(t, m.URL)
	sources := filepath.Join(opts.host.root, "etc/apt/sources.list.d/alphix.sources")
	check(t, os.WriteFile(sources, []byte("Types: deb\nURIs: "+m.URL+"\nSuites: alpha\nComponents: main\n"), 0o644))
	if _, err := Setup(t.Context(), opts); !errors.Is(err, ErrUntrusted) {
		t.Fatal(err)
	}
	consistent(t, opts)
	if n := m.debs.Load(); n > 0 {
		t.Errorf("%d packages of an unsigned archive were fetched", n)
	}
}

func TestSetupLocalArchive(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, b := range standardArchive(t) {
		path := filepath.Join(dir, name)
		check(t, os.MkdirAll(filepath.Dir(path), 0o755))
		check(t, os.WriteFile(path, b, 0o644))
	}
	opts := machine(t, "file:"+dir)
	mustSetup(t, opts)
	whole(t, opts)
}

// Without a newer QEMU, or kernel, Setup succeeds, says so, and does not ask again.
func TestSetupNothingNewer(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		suite          string
		add            func(t *testing.T, a archive)
		qemus, kernels int
	}{
		"no backports": {"alpha-backports", nil, 1, 2},
		"backports have none": {"alpha-backports", func(t *testing.T, a archive) {
			a.suite(t, "alpha-backports", []testPackage{{"seabios", "1.17~bpo", "", nil}})
		}, 1, 2},
		"no next release": {next, nil, 2, 1},
		"next has no kernel": {next, func(t *testing.T, a archive) {
			a.suite(t, next, []testPackage{{"seabios", "1.17", "", nil}})
		}, 2, 1},
		"next has the same": {next, func(t *testing.T, a archive) {
			a.suite(t, next, []testPackage{{"linux-image-amd64", "6.12.117-1", "linux-image-" + testRelease + " (= 6.12.117-1)", nil}})
		}, 2, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := archive{}
			for path, b := range standardArchive(t) {
				if !strings.Contains(path, "/"+c.suite+"/") {
					a[path] = b
				}
			}
			if c.add != nil {
				c.add(t, a)
			}
			m := newMirror(t, a)
			opts := machine(t, m.URL)
			in := mustSetup(t, opts)
			if len(in.QEMUs) != c.qemus || len(in.Kernels) != c.kernels || in.Kernel.Release != testRelease || len(in.Notes) != 1 || !strings.Contains(in.Notes[0], c.suite) {
				t.Fatalf("%+v", in)
			}
			m.Close()
			again := mustSetup(t, opts)
			if diff := cmp.Diff(in, again); diff != "" {
				t.Errorf("second setup (-first +second):\n%s", diff)
			}
		})
	}
}

// Suites that are out of reach are noted and tried again the next time, with or without network.
func TestSetupNewerOutOfReach(t *testing.T) {
	t.Parallel()
	for _, suite := range []string{"alpha-backports", next} {
		t.Run(suite, func(t *testing.T) {
			t.Parallel()
			m := newMirror(t, standardArchive(t))
			opts := machine(t, m.URL)
			m.misbehave(func(w http.ResponseWriter, path string, b []byte) bool {
				if strings.Contains(path, "/"+suite+"/") {
					w.WriteHeader(http.StatusServiceUnavailable)
					return true
				}
				return false
			})
			in := mustSetup(t, opts)
			if len(in.QEMUs)+len(in.Kernels) != 3 || len(in.Notes) != 1 || !strings.Contains(in.Notes[0], "this time") {
				t.Fatalf("%+v", in)
			}
			m.misbehave(func(w http.ResponseWriter, path string, b []byte) bool {
				panic(http.ErrAbortHandler)
			})
			if in := mustSetup(t, opts); len(in.QEMUs)+len(in.Kernels) != 3 || len(in.Notes) != 1 {
				t.Fatalf("without network: %+v", in)
			}
			m.behave()
			mustSetup(t, opts)
			whole(t, opts)
		})
	}
}

func TestSetupUnsupported(t *testing.T) {
	t.Parallel()
	m := newMirror(t, standardArchive(t))
	for name, change := range map[string]func(*host){
		"other machine": func(h *host) { h.arch = "arm64" },
		"no apt": func(h *host) {
			h.lookPath = func(string) (string, error) { return "", exec.ErrNotFound }
		},
		"no os-release": func(h *host) { h.root = t.TempDir() },
	} {
		opts := machine(t, m.URL)
		change(&opts.host)
		_, err := Setup(t.Context(), opts)
		if !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "GOMMU_QEMU, GOMMU_KERNEL and GOMMU_MODULES") {
			t.Errorf("%s: %v", name, err)
		}
		if len(snapshot(t, opts)) > 0 {
			t.Errorf("%s: something was written", name)
		}
	}
	opts := machine(t, m.URL)
	check(t, os.RemoveAll(filepath.Join(opts.host.root, "etc/apt")))
	if _, err := Setup(t.Context(), opts); !errors.Is(err, ErrNoSources) {
		t.Errorf("no sources: %v", err)
	}
	opts = machine(t, m.URL)
	opts.Cache += ":1"
	if _, err := Setup(t.Context(), opts); err == nil || !strings.Contains(err.Error(), envCache) {
		t.Errorf("cache with a colon: %v", err)
	}
}

// The QEMU in PATH is enough where packages cannot be fetched and the kernel is given.
func TestSetupQEMUInPath(t *testing.T) {
	t.Parallel()
	opts := machine(t, "http://mirror.example/")
	env := kernelOverride(t)
	opts.host.getenv = func(name string) string { return env[name] }
	qemu := filepath.Join(t.TempDir(), qemuName)
	check(t, os.WriteFile(qemu, []byte(fakeQEMU("8.2.0")), 0o755))
	opts.host.lookPath = func(name string) (string, error) {
		if name == qemuName {
			return qemu, nil
		}
		return "", exec.ErrNotFound
	}
	in := mustSetup(t, opts)
	if len(in.QEMUs) != 1 || in.QEMUs[0] != (QEMU{qemu, "8.2.0"}) || len(in.Notes) != 1 {
		t.Errorf("%+v", in)
	}
}

func TestSetupNoKernelPackage(t *testing.T) {
	t.Parallel()
	needTools(t)
	a := archive{}
	a.suite(t, "alpha", basePackages()[:4])
	m := newMirror(t, a)
	opts := machine(t, m.URL)
	if _, err := Setup(t.Context(), opts); !errors.Is(err, ErrNoPackage) || !strings.Contains(err.Error(), "linux-image-generic") {
		t.Fatal(err)
	}
	consistent(t, opts)
}

// The kernel of Ubuntu's shape: a meta package, the image, and its modules apart; modules compressed with zstd, merged /usr.
func TestSetupSplitKernel(t *testing.T) {
	t.Parallel()
	needTools(t)
	a := archive{}
	rel := "6.8.0-31-generic"
	a.suite(t, "alpha", append(basePackages()[:4],
		testPackage{"linux-image-generic", "6.8.0.31", "linux-image-" + rel + ", linux-modules-extra-" + rel + ", linux-firmware", nil},
		testPackage{"linux-image-" + rel, "6.8.0-31.31", "kmod, linux-base (>= 4), linux-modules-" + rel, []debFile{{"boot/vmlinuz-" + rel, "image", 0o600}}},
		testPackage{"linux-modules-" + rel, "6.8.0-31.31", "", []debFile{{"usr/lib/modules/" + rel + "/kernel/vfio.ko.zst", "module", 0o644}}},
	))
	m := newMirror(t, a)
	opts := machine(t, m.URL)
	in := mustSetup(t, opts)
	if in.Kernel.Release != rel {
		t.Fatalf("%+v", in)
	}
	for _, path := range []string{in.Kernel.Image, filepath.Join(in.Kernel.Modules, "kernel/vfio.ko.zst")} {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
}

// A QEMU that does not start is not put into the cache.
func TestSetupBrokenQEMU(t *testing.T) {
	t.Parallel()
	needTools(t)
	a := archive{}
	pkgs := basePackages()
	pkgs[0].files[0].content = "#!/bin/sh\necho libfoo.so.1: cannot open >&2\nexit 127\n"
	a.suite(t, "alpha", pkgs)
	m := newMirror(t, a)
	opts := machine(t, m.URL)
	_, err := Setup(t.Context(), opts)
	if !errors.Is(err, ErrTool) || !strings.Contains(err.Error(), "libfoo.so.1") {
		t.Fatal(err)
	}
	consistent(t, opts)
}

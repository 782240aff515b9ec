package provision

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The distribution of these tests is called "alpha". Its QEMU is a shell script and its loader one that runs it.
const (
	testRelease = "6.12.117+t-amd64"
	nextRelease = "7.2.12+t1-amd64" // of the next release
	testLoader  = "#!/bin/sh\n# called as: loader --library-path dirs program arguments...\nshift 2\nexec /bin/sh \"$@\"\n"
)

func fakeQEMU(version string) string {
	return "#!/bin/sh\necho 'QEMU emulator version " + version + " (test)'\necho \"$@\"\n"
}

// debFile is a file of a test package; a name that ends in " -> target" is a symbolic link.
type debFile struct {
	name, content string
	mode          os.FileMode
}

type testPackage struct {
	name, version, depends string
	files                  []debFile
}

// bigKernel is a file that makes the kernel's package take megabytes; it does not compress.
func bigKernel(n int) string {
	b := make([]byte, n)
	x := uint32(1)
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return string(b)
}

func basePackages() []testPackage {
	return []testPackage{
		{"qemu-system-x86", "1:7.2+t-1", "libc6 (>= 2), seabios | other-bios, qemu-system-data", []debFile{
			{"usr/bin/qemu-system-x86_64", fakeQEMU("7.2.22"), 0o755},
			{"usr/share/doc/qemu/copyright", "text", 0o644},
			{"usr/share/man/man1/qemu.1", "text", 0o644},
			{"usr/lib/x86_64-linux-gnu/qemu/accel.so", "module", 0o644},
		}},
		{"qemu-system-data", "1:7.2+t-1", "", []debFile{
			{"usr/share/qemu/vgabios.bin", "vga", 0o644},
			{"usr/share/qemu/bios.bin -> ../seabios/bios.bin", "", 0},
		}},
		{"seabios", "1.16", "", []debFile{{"usr/share/seabios/bios.bin", "bios", 0o644}}},
		{"libc6", "2.36", "", []debFile{
			{"lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", testLoader, 0o755},
			{"lib64/ld-linux-x86-64.so.2 -> /lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", "", 0},
			{"lib/x86_64-linux-gnu/libc.so.6", "libc", 0o755},
			{"usr/lib/x86_64-linux-gnu/pulseaudio/libpulse.so.0", "pulse", 0o644},
			{"usr/lib/x86_64-linux-gnu/gconv/UTF-16.so", "gconv", 0o644},
		}},
		{"linux-image-6.12-amd64", "6.12.117-1", "linux-image-" + testRelease + " (= 6.12.117-1)", nil},
		{"linux-image-" + testRelease, "6.12.117-1", "kmod, initramfs-tools (>= 0.120) | linux-initramfs-tool", []debFile{
			{"boot/vmlinuz-" + testRelease, "image", 0o600},
			{"boot/config-" + testRelease, "CONFIG_IOMMUFD=m\n", 0o644},
			{"boot/System.map-" + testRelease, "map", 0o644},
			{"lib/modules/" + testRelease + "/kernel/vfio.ko.xz", bigKernel(300_000), 0o644},
			{"lib/modules/" + testRelease + "/modules.order", "kernel/vfio.ko\n", 0o644},
		}},
	}
}

func backportsPackages() []testPackage {
	newer := basePackages()[0]
	newer.version = "1:10.0+t-1~bpo"
	newer.files = []debFile{{"usr/bin/qemu-system-x86_64", fakeQEMU("10.0.2"), 0o755}}
	return []testPackage{newer}
}

// testingPackages have the kernel in one more package than basePackages, as Ubuntu does.
func testingPackages() []testPackage {
	return []testPackage{
		{"linux-image-amd64", "7.2.12-1", "linux-image-" + nextRelease + " (= 7.2.12-1)", nil},
		{"linux-image-" + nextRelease, "7.2.12-1", "kmod, linux-modules-" + nextRelease, []debFile{
			{"boot/vmlinuz-" + nextRelease, "newer image", 0o600},
		}},
		{"linux-modules-" + nextRelease, "7.2.12-1", "", []debFile{
			{"usr/lib/modules/" + nextRelease + "/kernel/vfio.ko.xz", "newer module", 0o644},
		}},
	}
}

// archive is a package archive in memory: its files by path.
type archive map[string][]byte

// needTools skips where the tools that Setup drives are missing.
func needTools(t testing.TB) {
	t.Helper()
	for _, tool := range []string{"apt-get", "apt-cache", "dpkg-deb"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is missing: these tests drive the packaging tools of Debian or Ubuntu; run them there", tool)
		}
	}
}

// buildDeb makes a .deb of p with dpkg-deb.
func buildDeb(t testing.TB, p testPackage) []byte {
	t.Helper()
	dir := t.TempDir()
	for _, f := range append([]debFile{{"DEBIAN/control", control(p), 0o644}}, p.files...) {
		name, target, isLink := strings.Cut(f.name, " -> ")
		path := filepath.Join(dir, name)
		check(t, os.MkdirAll(filepath.Dir(path), 0o755))
		if isLink {
			check(t, os.Symlink(target, path))
			continue
		}
		check(t, os.WriteFile(path, []byte(f.content), f.mode))
		check(t, os.Chmod(path, f.mode))
	}
	check(t, os.Chmod(dir, 0o755))
	deb := filepath.Join(t.TempDir(), "p.deb")
	if out, err := exec.Command("dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "-b", dir, deb).CombinedOutput(); err != nil {
		t.Fatalf("dpkg-deb -b: %v\n%s", err, out)
	}
	b, err := os.ReadFile(deb)
	check(t, err)
	return b
}

func control(p testPackage) string {
	s := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: amd64\nMaintainer: nobody <nobody@example>\n", p.name, p.version)
	if p.depends != "" {
		s += "Depends: " + p.depends + "\n"
	}
	return s + "Description: test\n a package of a test\n"
}

// suite adds the packages to the archive as a suite.
func (a archive) suite(t testing.TB, name string, pkgs []testPackage) {
	t.Helper()
	var index strings.Builder
	for _, p := range pkgs {
		deb := buildDeb(t, p)
		file := "pool/" + p.name + "_" + strings.ReplaceAll(p.version, ":", "%3a") + "_amd64.deb"
		a[file] = deb
		sum := sha256.Sum256(deb)
		size := 1
		for _, f := range p.files {
			size += (len(f.content) + 1023) / 1024
		}
		fmt.Fprintf(&index, "%sFilename: %s\nSize: %d\nInstalled-Size: %d\nSHA256: %x\n\n",
			strings.Replace(control(p), "Description:", "Section: test\nDescription:", 1), file, len(deb), size, sum)
	}
	a.index(name, index.String())
}

// index writes the suite's Packages and Release.
func (a archive) index(name, packages string) {
	dir := "dists/" + name + "/"
	a[dir+"main/binary-amd64/Packages"] = []byte(packages)
	sum := sha256.Sum256([]byte(packages))
	release := "Origin: Test\nSuite: " + name + "\nCodename: " + name + "\nArchitectures: amd64\nComponents: main\n"
	if strings.HasSuffix(name, "-backports") {
		release += "NotAutomatic: yes\nButAutomaticUpgrades: yes\n"
	}
	release += "Date: " + time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC).Format(time.RFC1123) + "\nSHA256:\n"
	release += fmt.Sprintf(" %s %d main/binary-amd64/Packages\n", hex.EncodeToString(sum[:]), len(packages))
	a[dir+"Release"] = []byte(release)
}

// standard is the archive that most tests use, built once: Debian's shape, with backports and a next release.
var standard struct {
	once sync.Once
	archive
}

func standardArchive(t testing.TB) archive {
	t.Helper()
	needTools(t)
	standard.once.Do(func() {
		a := archive{}
		a.suite(t, "alpha", basePackages())
		a.suite(t, "alpha-backports", backportsPackages())
		a.suite(t, next, testingPackages())
		standard.archive = a
	})
	if standard.archive == nil {
		t.Fatal("the archive could not be built")
	}
	return standard.archive
}

// mirror serves an archive and misbehaves on demand.
type mirror struct {
	*httptest.Server
	archive  archive
	requests atomic.Int64
	debs     atomic.Int64                                                            // requests for packages
	trouble  atomic.Pointer[func(w http.ResponseWriter, path string, b []byte) bool] // reports whether it answered
}

func newMirror(t testing.TB, a archive) *mirror {
	m := &mirror{archive: a}
	m.Server = httptest.NewServer(m)
	t.Cleanup(m.Close)
	return m
}

func (m *mirror) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.requests.Add(1)
	path := strings.TrimPrefix(r.URL.EscapedPath(), "/")
	path = strings.NewReplacer("%253a", "%3a", "%2b", "+", "%7e", "~").Replace(path)
	b, ok := m.archive[path]
	if strings.HasSuffix(path, ".deb") {
		m.debs.Add(1)
	}
	if f := m.trouble.Load(); f != nil && (*f)(w, path, b) {
		return
	}
	if !ok {
		http.NotFound(w, r)
		return
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
}

func (m *mirror) misbehave(f func(w http.ResponseWriter, path string, b []byte) bool) {
	m.trouble.Store(&f)
}

func (m *mirror) behave() { m.trouble.Store(nil) }

// machine makes a root whose sources name uri, and Options with a fresh cache for it.
func machine(t testing.TB, uri string) Options {
	t.Helper()
	root := t.TempDir()
	check(t, os.MkdirAll(filepath.Join(root, "etc/apt/sources.list.d"), 0o755))
	check(t, os.WriteFile(filepath.Join(root, "etc/os-release"), []byte("ID=alphix\nVERSION_CODENAME=\"alpha\"\n"), 0o644))
	sources := "Types: deb\nURIs: " + uri + "\nSuites: alpha alpha-updates-of-another\nComponents: main contrib\nTrusted: yes\n\n" +
		"Types: deb\nURIs: http://third.example/\nSuites: alpha\nComponents: stable\n"
	check(t, os.WriteFile(filepath.Join(root, "etc/apt/sources.list.d/alphix.sources"), []byte(sources), 0o644))
	return Options{
		Cache: filepath.Join(t.TempDir(), "a cache"),
		host: host{
			root:   root,
			arch:   "amd64",
			getenv: func(string) string { return "" },
			lookPath: func(name string) (string, error) {
				if name == qemuName {
					return "", exec.ErrNotFound // whatever this machine has
				}
				return exec.LookPath(name)
			},
			aptConf: "Acquire::http::Proxy \"DIRECT\";\nAcquire::http::Timeout \"60\";\n",
			noPause: true,
			least:   1,
		},
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

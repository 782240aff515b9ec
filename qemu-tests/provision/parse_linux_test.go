package provision

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseURIs(t *testing.T) {
	out := `Reading package lists...
'http://mirror.example/pool/a/audit/libaudit_3.0.9-1_all.deb' libaudit_1%3a3.0.9-1_all.deb 10448 MD5Sum:c1f1
'http://mirror.example/pool/l/linux-image-6.12%2b.deb' linux-image-6.12+_6.12-1~deb12u1_amd64.deb 107 SHA256:803d
'http://mirror.example/odd' odd 1
E: nothing
`
	want := []string{"libaudit=1:3.0.9-1", "linux-image-6.12+=6.12-1~deb12u1"}
	if diff := cmp.Diff(want, parseURIs(out)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// What Debian and Ubuntu say of their kernels.
func TestKernelDepends(t *testing.T) {
	for text, want := range map[string][]string{
		"Depends: linux-image-6.12.117+deb12-amd64 (= 6.12.117-1~deb12u1)":                                              {"linux-image-6.12.117+deb12-amd64"},
		"Pre-Depends: linux-base (>= 4.12~)\nDepends: kmod, initramfs-tools (>= 0.120+deb8u2) | linux-initramfs-tool":   nil,
		"Depends: linux-image-6.8.0-31-generic, linux-modules-extra-6.8.0-31-generic, linux-firmware, intel-microcode":  {"linux-image-6.8.0-31-generic"},
		"Depends: kmod, linux-base (>= 4.5), linux-modules-6.8.0-31-generic":                                            {"linux-modules-6.8.0-31-generic"},
		"Depends: linux-modules-6.8.0-31-generic:amd64,\n linux-image-6.8.0-31-generic | linux-image-unsigned-6.8.0-31": {"linux-modules-6.8.0-31-generic", "linux-image-6.8.0-31-generic"},
		"Package: nothing": nil,
	} {
		if diff := cmp.Diff(want, kernelDepends(parseStanzas(text)[0])); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
}

func TestParsePackage(t *testing.T) {
	good := "Package: a+b\nVersion: 1:2~3\nArchitecture: all\nSize: 10\nInstalled-Size: 3\nSHA256: " + strings.Repeat("0a", 32) + "\n"
	p, ok := parsePackage(parseStanzas(good)[0])
	if !ok || p.file != "a+b_1%3a2~3_all.deb" || p.installed != 3072 || p.Size != 10 {
		t.Errorf("%+v, %v", p, ok)
	}
	for _, field := range []string{"Package", "Version", "Size", "SHA256"} {
		text := strings.Replace(good, field+": ", "No-"+field+": ", 1)
		if field == "Size" {
			text = strings.Replace(good, "\nSize: 10", "\nSize: ten", 1)
		}
		if p, ok := parsePackage(parseStanzas(text)[0]); ok {
			t.Errorf("without %s: %+v", field, p)
		}
	}
}

func TestMergeUsr(t *testing.T) {
	for name, want := range map[string]string{
		"./lib/x86_64-linux-gnu/libc.so.6": "usr/lib/x86_64-linux-gnu/libc.so.6",
		"./usr/lib/a":                      "usr/lib/a",
		"/lib64/ld.so":                     "usr/lib64/ld.so",
		"./libexec/a":                      "libexec/a",
		"../../etc/passwd":                 "etc/passwd",
		"./boot/../lib/x":                  "usr/lib/x",
		"./":                               "",
	} {
		if got := mergeUsr(name); got != want {
			t.Errorf("mergeUsr(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestFindParts(t *testing.T) {
	files := func(names ...string) map[string]unitFile {
		m := map[string]unitFile{}
		for _, name := range names {
			m[name] = unitFile{Path: treeName + "/" + name}
		}
		return m
	}
	release, parts, err := findParts(files("boot/vmlinuz-6.1", "usr/lib/modules/6.1/a.ko"))
	if err != nil || release != "6.1" || *parts != (kernelPart{"root/boot/vmlinuz-6.1", "root/usr/lib/modules/6.1"}) {
		t.Errorf("%q, %+v, %v", release, parts, err)
	}
	release, parts, err = findParts(files("usr/lib/modules/6.1/vmlinuz", "usr/lib/modules/6.1/a.ko"))
	if err != nil || release != "6.1" || parts.Image != "root/usr/lib/modules/6.1/vmlinuz" {
		t.Errorf("image among the modules: %q, %+v, %v", release, parts, err)
	}
	for _, bad := range []map[string]unitFile{files(), files("boot/vmlinuz-6.1"), files("usr/lib/modules/6.1/a.ko"), files("boot/vmlinuz-6.2", "usr/lib/modules/6.1/a.ko")} {
		if _, parts, err := findParts(bad); err == nil {
			t.Errorf("%v: %+v", bad, parts)
		}
	}
}

func TestCheckSpace(t *testing.T) {
	if err := (&setup{host: &host{}, cache: cache{t.TempDir()}}).checkSpace(1); err != nil {
		t.Error(err)
	}
}

// What tools say is turned into what it means.
func TestToolFailure(t *testing.T) {
	for text, want := range map[string]error{
		"E: Failed to fetch http://mirror.example/x  Hash Sum mismatch":                                         ErrHash,
		"E: Failed to fetch http://mirror.example/x  Could not connect to mirror.example:80":                    ErrNetwork,
		"E: Write error - write (28: No space left on device)\nE: Failed to fetch http://mirror.example/x":      ErrNoSpace,
		"dpkg-deb: error: failed to write: Disk quota exceeded":                                                 ErrNoSpace,
		"E: The repository 'http://mirror.example alpha InRelease' is not signed.":                              ErrUntrusted,
		"W: GPG error: http://mirror.example alpha InRelease: couldn't be verified: NO_PUBKEY 0E98404D386FA1D9": ErrUntrusted,
		"E: Unable to locate package qemu-system-x86":                                                           ErrNoPackage,
		"Segmentation fault": ErrTool,
		"":                   ErrTool,
	} {
		if err := toolFailure("do", "it", &toolError{"apt-get", text, errExit}); !isAll(err, want, errExit) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

var errExit = errors.New("exit status 100")

func isAll(err error, targets ...error) bool {
	for _, target := range targets {
		if !errors.Is(err, target) {
			return false
		}
	}
	return true
}

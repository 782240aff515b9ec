package provision

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The system's hooks are not run (Debian's container images empty the package cache from them), its sources and pins not read.
func TestAptIgnoresHooks(t *testing.T) {
	m := newMirror(t, standardArchive(t))
	opts := machine(t, m.URL)
	dir := t.TempDir()
	marker, config := filepath.Join(dir, "hook"), filepath.Join(dir, "apt.conf")
	var text strings.Builder
	for _, hook := range []string{"APT::Update::Pre-Invoke", "APT::Update::Post-Invoke", "APT::Update::Post-Invoke-Success", "DPkg::Pre-Invoke", "DPkg::Post-Invoke"} {
		text.WriteString(hook + " { \"touch " + marker + "\"; };\n")
	}
	text.WriteString("Dir::Etc::sourcelist \"" + filepath.Join(dir, "sources.list") + "\";\nAPT::Default-Release \"none\";\n")
	check(t, os.WriteFile(config, []byte(text.String()), 0o644))
	check(t, os.WriteFile(filepath.Join(dir, "sources.list"), []byte("deb http://third.example/ alpha main\n"), 0o644))
	t.Setenv("APT_CONFIG", config) // read like the system's own files, before this package's
	mustSetup(t, opts)
	whole(t, opts)
	if _, err := os.Stat(marker); err == nil {
		t.Error("a hook was run")
	}
}

// What apt accepts is compared with the index once more.
func TestDownloadChecksHashes(t *testing.T) {
	t.Parallel()
	m := newMirror(t, standardArchive(t))
	opts := machine(t, m.URL)
	sources := parseSources("Types: deb\nURIs: " + m.URL + "\nSuites: alpha\nComponents: main\nTrusted: yes\n")
	a, err := newApt(t.TempDir(), &opts.host, sources)
	check(t, err)
	var told int64
	check(t, a.update(t.Context(), func(done int64) { told = done }))
	if told == 0 {
		t.Error("no bytes of lists were told")
	}
	pkgs, err := a.describe(t.Context(), []string{"seabios=1.16"})
	check(t, err)
	check(t, a.download(t.Context(), pkgs, func(done int64) { told = done }))
	if told != pkgs[0].Size {
		t.Errorf("%d bytes were told, not %d", told, pkgs[0].Size)
	}
	pkgs[0].SHA256 = strings.Repeat("0", 64)
	if err := a.download(t.Context(), pkgs, func(int64) {}); !errors.Is(err, ErrHash) {
		t.Error(err)
	}
	if _, err := a.describe(t.Context(), []string{"seabios=9"}); !errors.Is(err, ErrNoPackage) {
		t.Errorf("a version that is not there: %v", err)
	}
}

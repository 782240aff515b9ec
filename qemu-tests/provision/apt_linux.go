package provision

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// apt is a root of apt's own in a folder: lists, downloads and an empty package database. The system's
// configuration (proxies, keys, logins) applies; its sources, pins and hooks do not.
type apt struct {
	dir  string
	host *host
}

// newApt makes the root in dir, which exists, with the given sources.
func newApt(dir string, h *host, sources []source) (*apt, error) {
	a := &apt{dir: dir, host: h}
	for _, sub := range []string{"state/lists/partial", "cache/archives/partial", "log", "tmp", "debs", "sources", "empty"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "status"), nil, 0o644); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "apt.conf"), []byte(a.config()), 0o644); err != nil {
		return nil, err
	}
	for i, s := range sources {
		if _, err := a.addSource("distribution"+strconv.Itoa(i), s); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// config returns the configuration, read after the system's (-c). The hooks are cleared because Debian's container
// images empty the system's package cache from them; the flags of the archives' safety are put back to their defaults.
// apt's own retries are off because on a full disk they can make it wait for ever (seen with apt 2.6.1): see fetch.
func (a *apt) config() string {
	return fmt.Sprintf(`#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Invoke;
#clear DPkg::Post-Invoke;
#clear DPkg::Pre-Install-Pkgs;
#clear APT::Architectures;
#clear APT::Default-Release;
Dir::State "%[1]s/state";
Dir::State::lists "lists";
Dir::State::status "%[1]s/status";
Dir::Cache "%[1]s/cache";
Dir::Cache::archives "archives";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::srcpkgcache "srcpkgcache.bin";
Dir::Log "%[1]s/log";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "%[1]s/sources";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "%[1]s/empty";
APT::Architecture "amd64";
APT::Architectures { "amd64"; };
APT::Sandbox::User "root";
APT::Install-Recommends "false";
APT::Install-Suggests "false";
APT::Get::AllowUnauthenticated "false";
APT::Update::Error-Mode "any";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowDowngradeToInsecureRepositories "false";
Acquire::Retries "0";
Debug::NoLocking "true";
quiet "2";
%[2]s
`, a.dir, a.host.aptConf)
}

// addSource adds a source and returns the file that it is in.
func (a *apt) addSource(name string, s source) (file string, err error) {
	file = filepath.Join(a.dir, "sources", name+".sources")
	return file, os.WriteFile(file, []byte(s.String()), 0o644)
}

// run runs an apt tool over the root.
func (a *apt) run(ctx context.Context, tool string, args ...string) (string, error) {
	if err := a.host.step(tool + " " + args[0]); err != nil {
		return "", err
	}
	return command{
		name: tool,
		args: append([]string{"-c", filepath.Join(a.dir, "apt.conf")}, args...),
		dir:  filepath.Join(a.dir, "debs"),
		env:  []string{"TMPDIR=" + filepath.Join(a.dir, "tmp")},
	}.output(ctx)
}

// update fetches the package indexes. tell is given the bytes there so far.
func (a *apt) update(ctx context.Context, tell func(done int64)) error {
	defer a.watch(tell, "state/lists", "state/lists/partial")()
	return a.fetch(ctx, "fetch package lists", "", "update")
}

// How often apt is asked to fetch from an archive that does not answer, and how long it is left alone after the first
// time; twice as long after the second.
const (
	fetchAttempts = 3
	fetchPause    = time.Second
)

// fetch runs apt-get for op, again while the network is in trouble. What an archive says it does not have is not asked for twice.
func (a *apt) fetch(ctx context.Context, op, name string, args ...string) error {
	for n := 0; ; n++ {
		_, err := a.run(ctx, "apt-get", args...)
		err = toolFailure(op, name, err)
		if !errors.Is(err, ErrNetwork) || isAbsent(err) || n == fetchAttempts-1 {
			return err
		}
		select {
		case <-ctx.Done():
			return &Error{Op: op, Name: name, Err: ctx.Err()}
		case <-time.After(a.host.pause(fetchPause << n)):
		}
	}
}

// release is the archive that packages come from: empty for the distribution's choice, else a suite preferred to it.
type release string

func (r release) args() []string {
	if r == "" {
		return nil
	}
	return []string{"-o", "APT::Default-Release=" + string(r)}
}

// closure returns the package and all that it depends on, down to the C library.
func (a *apt) closure(ctx context.Context, name string, from release) ([]pkg, error) {
	args := append([]string{"install", "--print-uris", "-y"}, from.args()...)
	out, err := a.run(ctx, "apt-get", append(args, name)...)
	if err != nil {
		return nil, toolFailure("resolve", name, err)
	}
	ids := parseURIs(out)
	if len(ids) == 0 {
		return nil, &Error{Op: "resolve", Name: name, Err: fmt.Errorf("%w: apt-get names no download", ErrTool)}
	}
	return a.describe(ctx, ids)
}

// parseURIs takes name=version out of lines such as 'uri' name_1%3a2.0_amd64.deb 1234 SHA256:....
func parseURIs(out string) []string {
	var ids []string
	for line := range strings.Lines(out) {
		words := strings.Fields(line)
		if len(words) < 3 || !strings.HasPrefix(words[0], "'") {
			continue
		}
		parts := strings.Split(words[1], "_")
		if len(parts) != 3 {
			continue
		}
		ids = append(ids, parts[0]+"="+strings.ReplaceAll(parts[1], "%3a", ":"))
	}
	return ids
}

// describe returns what the index says of packages given as name=version.
func (a *apt) describe(ctx context.Context, ids []string) ([]pkg, error) {
	out, err := a.run(ctx, "apt-cache", append([]string{"show"}, ids...)...)
	if err != nil {
		return nil, toolFailure("look up", strings.Join(ids[:min(len(ids), 3)], " "), err)
	}
	found := map[string]pkg{}
	for _, st := range parseStanzas(out) {
		if p, ok := parsePackage(st); ok {
			found[p.Name+"="+p.Version] = p
		}
	}
	pkgs := make([]pkg, len(ids))
	for i, id := range ids {
		p, ok := found[id]
		if !ok {
			return nil, &Error{Op: "look up", Name: id, Err: ErrNoPackage, Remedy: remedyTry}
		}
		pkgs[i] = p
	}
	return pkgs, nil
}

// candidate returns the index entry of the version of a package that would be installed; ok is false when there is none.
func (a *apt) candidate(ctx context.Context, name string, from release) (st stanza, ok bool, err error) {
	args := append([]string{"show", "--no-all-versions"}, from.args()...)
	out, err := a.run(ctx, "apt-cache", append(args, name)...)
	if t, isTool := err.(*toolError); isTool && strings.Contains(t.complaint, "No packages found") {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, toolFailure("look up", name, err)
	}
	for _, st := range parseStanzas(out) {
		if got, _ := st.get("Package"); got == name {
			return st, true, nil
		}
	}
	return nil, false, nil // a virtual package
}

// parsePackage reads a stanza of a package index.
func parsePackage(st stanza) (pkg, bool) {
	var p pkg
	var arch, size, kib string
	for name, to := range map[string]*string{"Package": &p.Name, "Version": &p.Version, "SHA256": &p.SHA256, "Architecture": &arch,
		"Size": &size, "Installed-Size": &kib} {
		*to, _ = st.get(name)
	}
	var err error
	if p.Size, err = strconv.ParseInt(size, 10, 64); err != nil || p.Size <= 0 || p.Name == "" || p.Version == "" || len(p.SHA256) != 64 {
		return pkg{}, false
	}
	if n, err := strconv.ParseInt(kib, 10, 64); err == nil {
		p.installed = n * 1024
	}
	p.file = p.Name + "_" + strings.ReplaceAll(p.Version, ":", "%3a") + "_" + arch + ".deb"
	return p, true
}

// download fetches the packages' files into debs/ and checks them against the index. tell is given the bytes there so far.
func (a *apt) download(ctx context.Context, pkgs []pkg, tell func(done int64)) error {
	ids := make([]string, len(pkgs))
	for i, p := range pkgs {
		ids[i] = p.Name + "=" + p.Version
	}
	stop := a.watch(tell, "debs")
	err := a.fetch(ctx, "download", pkgs[len(pkgs)-1].Name, append([]string{"download"}, ids...)...)
	stop()
	if err != nil {
		return err
	}
	for _, p := range pkgs {
		if err := ctx.Err(); err != nil {
			return err
		}
		sum, err := hashFile(a.deb(p))
		if err != nil {
			return fileError("download", p.Name, err)
		}
		if sum != p.SHA256 {
			return &Error{Op: "download", Name: p.Name, Err: fmt.Errorf("%w: SHA-256 %s, not %s", ErrHash, sum, p.SHA256), Remedy: remedyTry}
		}
	}
	return nil
}

// deb is where download puts a package.
func (a *apt) deb(p pkg) string { return filepath.Join(a.dir, "debs", p.file) }

// watch tells at once and every 200 ms how many bytes are in the folders of the root, until stop, which tells it a last time.
func (a *apt) watch(tell func(done int64), dirs ...string) (stop func()) {
	sum := func() {
		var n int64
		for _, dir := range dirs {
			entries, _ := os.ReadDir(filepath.Join(a.dir, dir))
			for _, e := range entries {
				if st, err := e.Info(); err == nil && st.Mode().IsRegular() {
					n += st.Size()
				}
			}
		}
		tell(n)
	}
	sum()
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				sum()
			case <-quit:
				sum()
				return
			}
		}
	}()
	return func() { close(quit); <-done }
}

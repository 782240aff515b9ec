package provision

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// distro is the distribution whose packages are fetched.
type distro struct {
	names    []string // "debian", or for a derivative also what it is like
	codename string   // the release, as the archive's suites call it: "bookworm"
}

// readDistro reads os-release(5). For a derivative the codename is that of the distribution it takes its packages from.
func readDistro(root string) (distro, error) {
	path := filepath.Join(root, "/etc/os-release")
	text, err := os.ReadFile(path)
	if err != nil {
		return distro{}, &Error{Op: "read", Name: path, Err: fmt.Errorf("%w: %w", ErrUnsupported, err), Remedy: remedyInstall}
	}
	vars := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			vars[name] = strings.Trim(value, `"'`)
		}
	}
	d := distro{names: append([]string{vars["ID"]}, strings.Fields(vars["ID_LIKE"])...)}
	for _, name := range []string{"UBUNTU_CODENAME", "DEBIAN_CODENAME", "VERSION_CODENAME"} {
		if d.codename == "" {
			d.codename = vars[name]
		}
	}
	if d.codename == "" {
		return distro{}, &Error{Op: "read", Name: path, Err: fmt.Errorf("%w: it has no VERSION_CODENAME", ErrUnsupported), Remedy: remedyInstall}
	}
	return d, nil
}

// suites returns the suites that make up the release, without its backports.
func (d distro) suites() []string {
	return []string{d.codename, d.codename + "-updates", d.codename + "-security", d.codename + "/updates"}
}

func (d distro) backports() string { return d.codename + "-backports" }

// next is the suite of what is to be the next release. Debian has it; archives of its derivatives have none of that name.
const next = "testing"

// sourceFileName is what apt reads in sources.list.d (sources.list(5)).
var sourceFileName = regexp.MustCompile(`^[A-Za-z0-9_.-]+\.(list|sources)$`)

// readSources reads the system's apt sources: sources.list and the files of sources.list.d.
func readSources(root string) ([]source, error) {
	dir := filepath.Join(root, "/etc/apt")
	paths := []string{filepath.Join(dir, "sources.list")}
	entries, err := os.ReadDir(filepath.Join(dir, "sources.list.d"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		if sourceFileName.MatchString(e.Name()) {
			paths = append(paths, filepath.Join(dir, "sources.list.d", e.Name()))
		}
	}
	var all []source
	for _, path := range paths {
		text, err := os.ReadFile(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return nil, err
		case strings.HasSuffix(path, ".sources"):
			all = append(all, parseSources(string(text))...)
		default:
			all = append(all, parseList(string(text))...)
		}
	}
	return all, nil
}

// components are those of a distribution that hold free software; what else there is, is somebody else's or not needed.
var components = []string{"main", "universe"}

// pick returns the sources of the distribution's own archives, cut down to its suites and components, and one for what else
// its main archive has. A source signed by another's key is a third party's and dropped, unless there is no other: then the
// machine uses a mirror that signs for itself.
func (d distro) pick(all []source) (own []source, main source, err error) {
	var foreign []source
	for _, s := range all {
		s.suites = intersect(s.suites, d.suites())
		s.components = intersect(s.components, components)
		if s.uris = slices.DeleteFunc(slices.Clone(s.uris), isDisc); len(s.uris) == 0 || len(s.suites) == 0 || len(s.components) == 0 {
			continue
		}
		if s.signedBy(d.names) {
			own = append(own, s)
		} else {
			foreign = append(foreign, s)
		}
	}
	isMain := func(s source) bool { return slices.Contains(s.suites, d.codename) }
	if !slices.ContainsFunc(own, isMain) {
		own = append(own, foreign...)
	}
	i := slices.IndexFunc(own, isMain)
	if i < 0 {
		return nil, source{}, &Error{Op: "read sources", Name: "/etc/apt/sources.list, /etc/apt/sources.list.d",
			Err:    fmt.Errorf("%w: suite %s, component main", ErrNoSources, d.codename),
			Remedy: "add the distribution's archive to them, or " + remedyInstall}
	}
	return own, own[i], nil
}

// of returns the source of another suite in the same archive.
func (s source) of(suite string) source {
	s.suites = []string{suite}
	return s
}

func isDisc(uri string) bool { return strings.HasPrefix(strings.ToLower(uri), "cdrom:") }

func intersect(have, want []string) []string {
	var both []string
	for _, h := range have {
		if slices.Contains(want, h) {
			both = append(both, h)
		}
	}
	return both
}

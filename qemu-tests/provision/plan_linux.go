package provision

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// plan is a unit to build.
type plan struct {
	role   role
	label  string
	pkgs   []pkg
	absent string // why there is none; then pkgs is empty
}

// plan asks the package indexes what the roles are made of. The distribution's own archives come first, so
// that trouble with others does not touch what is required.
func (s *setup) plan(ctx context.Context, a *apt, where sources, missing []role) ([]plan, error) {
	if err := a.update(ctx, func(done int64) { s.tell("fetch package lists", done, 0) }); err != nil {
		return nil, err
	}
	var plans []plan
	if slices.Contains(missing, roleKernel) {
		pkgs, err := a.planKernel(ctx, kernelPackages, "")
		if err != nil {
			return nil, err
		}
		plans = append(plans, plan{role: roleKernel, label: kernelLabel(pkgs), pkgs: pkgs})
	}
	if slices.Contains(missing, roleQEMU) {
		pkgs, err := a.closure(ctx, qemuPackage, "")
		if err != nil {
			return nil, err
		}
		plans = append(plans, plan{role: roleQEMU, label: qemuLabel(pkgs), pkgs: pkgs})
	}
	for _, n := range a.newer(where) {
		if !slices.Contains(missing, n.role) {
			continue
		}
		p, ok, err := s.planNewer(ctx, a, n)
		if err != nil {
			return nil, err
		}
		if ok {
			plans = append(plans, p)
		}
	}
	return plans, nil
}

// newer is a unit that other suites of the archive may have in a newer version, which is not required.
type newer struct {
	role  role
	what  string
	suite source
	pkgs  func(ctx context.Context, from release) ([]pkg, error)
	label func(pkgs []pkg) string
}

func (a *apt) newer(where sources) []newer {
	qemu := func(ctx context.Context, from release) ([]pkg, error) { return a.closure(ctx, qemuPackage, from) }
	kernel := func(ctx context.Context, from release) ([]pkg, error) {
		if from == "" {
			return a.planKernel(ctx, kernelPackages, from)
		}
		return a.planKernel(ctx, nextPackages, from)
	}
	return []newer{
		{roleBackports, "QEMU", where.backports, qemu, qemuLabel},
		{roleNext, "kernel", where.next, kernel, kernelLabel},
	}
}

// planNewer plans a newer unit. ok is false when it cannot be had this time; the notes say why then.
func (s *setup) planNewer(ctx context.Context, a *apt, n newer) (p plan, ok bool, err error) {
	suite := n.suite.suites[0]
	older, err := n.pkgs(ctx, "")
	if err != nil {
		return plan{}, false, err
	}
	file, err := a.addSource(string(n.role), n.suite)
	if err != nil {
		return plan{}, false, fileError("make apt root", file, err)
	}
	var pkgs []pkg
	if err = a.update(ctx, func(done int64) { s.tell("fetch package lists of "+suite, done, 0) }); err == nil {
		pkgs, err = n.pkgs(ctx, release(suite))
	}
	switch {
	case ctx.Err() != nil, errors.Is(err, ErrNoSpace), errors.Is(err, ErrReadOnly):
		return plan{}, false, err
	case err != nil && isAbsent(err):
		p = plan{role: n.role, absent: "the distribution's archive has no " + suite}
	case errors.Is(err, ErrNoPackage):
		p = plan{role: n.role, absent: suite + " has no " + n.what}
	case err != nil:
		s.notes = append(s.notes, fmt.Sprintf("no newer %s from %s this time: %v", n.what, suite, err))
	case n.label(pkgs) == n.label(older):
		p = plan{role: n.role, absent: suite + " has no other than " + n.label(older)}
	default:
		return plan{role: n.role, label: n.label(pkgs), pkgs: pkgs}, true, nil
	}
	if err := os.Remove(file); err != nil {
		return plan{}, false, fileError("make apt root", file, err)
	}
	return p, p.absent != "", nil
}

// isAbsent reports whether apt failed because the archive answered that it has no such suite. Of an archive that is trusted
// without a signature apt then asks for the package index, too.
func isAbsent(err error) bool {
	return strings.Contains(err.Error(), "does not have a Release file") || strings.Contains(err.Error(), "404  Not Found")
}

// qemuLabel names a QEMU by its package's version, without the epoch.
func qemuLabel(pkgs []pkg) string {
	i := slices.IndexFunc(pkgs, func(p pkg) bool { return p.Name == qemuPackage })
	if i < 0 {
		return "no QEMU"
	}
	version := pkgs[i].Version
	if _, rest, ok := strings.Cut(version, ":"); ok {
		version = rest
	}
	return "QEMU " + version
}

// kernelLabel names a kernel by its first package, which has the release in its name.
func kernelLabel(pkgs []pkg) string { return "kernel " + pkgs[0].Name }

// neededSpace returns the bytes that building the plans takes at most: everything unpacked, and the downloads of one.
func neededSpace(plans []plan) int64 {
	var unpacked, downloads int64
	for _, p := range plans {
		debs, files := p.size()
		downloads = max(downloads, debs)
		unpacked += files
	}
	return unpacked + downloads
}

// size returns the bytes of the plan's packages, as files and, by the index, unpacked.
func (p plan) size() (debs, unpacked int64) {
	for _, q := range p.pkgs {
		debs += q.Size
		if q.installed > 0 {
			unpacked += q.installed
		} else {
			unpacked += 4 * q.Size
		}
	}
	return debs, unpacked
}

// build makes the unit of p in dir: downloaded, checked, unpacked and, for QEMU, seen to start.
func (s *setup) build(ctx context.Context, a *apt, p plan, dir string) (*manifest, error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, fileError("make staging folder", dir, err)
	}
	m := &manifest{Role: p.role, Absent: p.absent, Packages: p.pkgs}
	if p.absent != "" {
		m.Version = "none"
		return m, nil
	}
	debs, unpacked := p.size()
	if err := a.download(ctx, p.pkgs, func(done int64) { s.tell("download "+p.label, done, debs) }); err != nil {
		return nil, err
	}
	keep := keepQEMU
	if p.role.kind() == roleKernel.kind() {
		keep = keepKernel
	}
	t, err := newTree(filepath.Join(dir, treeName), keep, s.host, func(read int64) { s.tell("unpack "+p.label, min(read, unpacked-1), unpacked) })
	if err != nil {
		return nil, fileError("unpack", dir, err)
	}
	defer t.close()
	for _, q := range p.pkgs {
		if err := t.unpack(ctx, a.deb(q)); err != nil {
			return nil, err
		}
		if err := os.Remove(a.deb(q)); err != nil {
			return nil, fileError("unpack", q.file, err)
		}
	}
	s.tell("unpack "+p.label, unpacked, unpacked) // what the index says is rounded up
	for _, f := range t.files {
		m.Files = append(m.Files, f)
	}
	if p.role.kind() == roleKernel.kind() {
		m.Version, m.Kernel, err = findParts(t.files)
	} else {
		err = s.finishQEMU(m, dir, t.files)
	}
	slices.SortFunc(m.Files, func(a, b unitFile) int { return strings.Compare(a.Path, b.Path) })
	return m, err
}

// finishQEMU adds the wrapper and starts it, to learn the version and that nothing is missing.
func (s *setup) finishQEMU(m *manifest, dir string, files map[string]unitFile) error {
	if err := writeWrapper(dir, files); err != nil {
		return fileError("write", wrapperPath, err)
	}
	path := filepath.Join(dir, filepath.FromSlash(wrapperPath))
	sum, err := hashFile(path)
	if err != nil {
		return fileError("read", path, err)
	}
	st, err := os.Stat(path)
	if err != nil {
		return fileError("read", path, err)
	}
	m.Files = append(m.Files, unitFile{Path: wrapperPath, Size: st.Size(), SHA256: sum, Exec: true})
	if m.Version, err = askVersion(path); err != nil {
		return &Error{Op: "start", Name: path, Err: fmt.Errorf("%w: %w", ErrTool, err),
			Remedy: "if its file system forbids programs (noexec), set " + envCache + " to a folder on another"}
	}
	return nil
}

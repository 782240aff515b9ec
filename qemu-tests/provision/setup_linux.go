package provision

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Setup provides what is missing, or damaged, or with Force everything, and returns what Find then finds. What the
// environment overrides is not provided. When nothing is missing, Setup reads the cache (all of it, for its hashes),
// uses no network and changes nothing. When it fails, the units that were good before are still there, those that it
// completed are kept, and nothing else is left behind.
//
// The newer QEMU of the backports, and the kernel of the next release, are provided where the distribution has them. Where it has not,
// or the archive cannot be reached, Notes says so and Setup succeeds. A QEMU in PATH is enough where packages cannot be fetched.
//
// Errors: ErrUnsupported, ErrNoSources, ErrNoPackage, ErrNoSpace, ErrNetwork, ErrUntrusted, ErrHash, ErrReadOnly, ErrTool,
// ErrOverride, and those of ctx.
func Setup(ctx context.Context, opts Options) (Installed, error) {
	c, err := opts.cache()
	if err != nil {
		return Installed{}, err
	}
	s := &setup{opts: &opts, host: &opts.host, cache: c}
	missing, damage, err := s.missing(ctx)
	if err != nil {
		return Installed{}, err
	}
	if len(missing) > 0 {
		if err := s.provide(ctx, missing); err != nil {
			if !s.canDoWithout(missing, damage, err) {
				return Installed{}, err
			}
			s.notes = append(s.notes, err.Error())
		}
	}
	in, err := Find(opts)
	in.Notes = append(in.Notes, s.notes...)
	return in, err
}

// setup is a Setup at work.
type setup struct {
	opts  *Options
	host  *host
	cache cache
	notes []string
}

func (s *setup) tell(step string, done, total int64) {
	if s.opts.Progress != nil {
		s.opts.Progress(Event{Step: step, Done: done, Total: total})
	}
}

// missing returns the roles to provide and what is damaged of the units in the cache.
func (s *setup) missing(ctx context.Context) (roles []role, damage []error, err error) {
	if s.host.env(envQEMU) == "" {
		roles = append(roles, roleQEMU, roleBackports)
	} else if _, err := FindQEMU(*s.opts); err != nil {
		return nil, nil, err
	}
	switch {
	case s.opts.NoKernel:
	case s.host.env(envKernel) == "" && s.host.env(envModules) == "":
		roles = append(roles, roleKernel, roleNext)
	default:
		if _, err := FindKernel(*s.opts); err != nil {
			return nil, nil, err
		}
	}
	if s.opts.Force || len(roles) == 0 {
		return roles, nil, nil
	}
	units, damage := s.cache.units(roles...)
	for _, u := range units {
		s.tell("check "+filepath.Base(u.dir), 0, 0)
		err := u.verify(ctx)
		if ctx.Err() != nil {
			return nil, nil, err
		}
		if err != nil {
			damage = append(damage, err)
			continue
		}
		roles = slices.DeleteFunc(roles, func(r role) bool { return r == u.Role })
	}
	return roles, damage, nil
}

// canDoWithout reports whether the roles that could not be provided because of err are no loss that Setup must report: the
// newer QEMU and kernel when the archive is out of reach, or any QEMU when there is one in PATH and no way to fetch packages.
func (s *setup) canDoWithout(missing []role, damage []error, err error) bool {
	if len(damage) > 0 || s.opts.Force || slices.Contains(missing, roleKernel) {
		return false
	}
	switch {
	case errors.Is(err, ErrNetwork):
		return !slices.Contains(missing, roleQEMU)
	case errors.Is(err, ErrUnsupported), errors.Is(err, ErrNoSources):
		_, err := FindQEMU(*s.opts)
		return err == nil
	}
	return false
}

// provide fetches the units of the roles into the cache.
func (s *setup) provide(ctx context.Context, missing []role) error {
	where, err := s.sources()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.cache.dir, 0o755); err != nil {
		return fileError("make cache", s.cache.dir, err)
	}
	waited := false
	unlock, err := s.cache.lock(ctx, func() {
		waited = true
		s.tell("wait for another setup of "+s.cache.dir, 0, 0)
	})
	if err != nil {
		return err
	}
	defer unlock()
	if waited && !s.opts.Force {
		if missing, _, err = s.missing(ctx); err != nil || len(missing) == 0 {
			return err
		}
	}
	staging, err := s.newStaging()
	if err != nil {
		return fileError("make staging folder", s.cache.dir, err)
	}
	defer os.RemoveAll(staging)
	return s.fill(ctx, staging, where, missing)
}

// sources are where packages come from.
type sources struct {
	own             []source
	backports, next source
}

// sources checks that this system's packages can be fetched and returns where from.
func (s *setup) sources() (sources, error) {
	unsupported := func(reason string) error {
		return &Error{Op: "setup", Err: fmt.Errorf("%w: %s", ErrUnsupported, reason), Remedy: remedyInstall}
	}
	if arch := s.host.architecture(); arch != "amd64" {
		return sources{}, unsupported("this is " + arch)
	}
	for _, tool := range []string{"apt-get", "apt-cache", "dpkg-deb"} {
		if _, err := s.host.look(tool); err != nil {
			return sources{}, unsupported("there is no " + tool)
		}
	}
	if strings.ContainsAny(s.cache.dir, "\":;\\\n") {
		return sources{}, &Error{Op: "cache folder", Name: s.cache.dir, Err: errors.New(`its path has one of " : ; \ or a line break in it`),
			Remedy: "set " + envCache + " to another"}
	}
	d, err := readDistro(s.host.root)
	if err != nil {
		return sources{}, err
	}
	all, err := readSources(s.host.root)
	if err != nil {
		return sources{}, fileError("read sources", "/etc/apt", err)
	}
	own, main, err := d.pick(all)
	return sources{own, main.of(d.backports()), main.of(next)}, err
}

// newStaging makes a staging folder, after removing those that dead processes left: a living one would hold the lock.
func (s *setup) newStaging() (string, error) {
	if err := s.host.step("make staging"); err != nil {
		return "", err
	}
	entries, err := os.ReadDir(s.cache.dir)
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), stagingPrefix) {
			if err := os.RemoveAll(filepath.Join(s.cache.dir, e.Name())); err != nil {
				return "", err
			}
		}
	}
	return os.MkdirTemp(s.cache.dir, stagingPrefix)
}

// leastSpace is what a Setup needs that fetches anything, in bytes: Debian 12's package lists and its next release's with apt's caches of
// them take 170 MB where apt keeps lists compressed.
const leastSpace = 180e6

// fill plans all units, compares what they need with the free space, and builds them one after the other.
func (s *setup) fill(ctx context.Context, staging string, where sources, missing []role) error {
	if err := s.checkSpace(cmp.Or(s.host.least, leastSpace)); err != nil {
		return err
	}
	root := filepath.Join(staging, "apt")
	a, err := newApt(root, s.host, where.own)
	if err != nil {
		return fileError("make apt root", root, err)
	}
	plans, err := s.plan(ctx, a, where, missing)
	if err != nil {
		return err
	}
	if err := s.checkSpace(neededSpace(plans)); err != nil {
		return err
	}
	for _, p := range plans {
		dir := filepath.Join(staging, string(p.role))
		m, err := s.build(ctx, a, p, dir)
		if err != nil {
			return err
		}
		if err := s.commit(dir, m); err != nil {
			return fileError("put into the cache", dir, err)
		}
	}
	return nil
}

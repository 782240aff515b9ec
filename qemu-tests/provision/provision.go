package provision

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"time"
)

// QEMU is an emulator ready to run.
type QEMU struct {
	// Path is the absolute path of an executable that is called like qemu-system-x86_64.
	Path string
	// Version is QEMU's own version, such as "7.2.22".
	Version string
}

// Kernel is a Linux kernel for a guest.
type Kernel struct {
	Image   string // path of the bootable image (vmlinuz)
	Modules string // path of its lib/modules/<release> folder, as the package has it: no modules.dep
	Release string // what uname -r says in the guest
}

// Installed is the test hardware that was found.
type Installed struct {
	QEMUs   []QEMU   // newest first
	Kernel  Kernel   // the distribution's: what is used unless another is asked for
	Kernels []Kernel // newest first, Kernel among them
	// Notes says what is not there without being an error, such as the newer QEMU where the distribution has none.
	Notes []string
}

// Options says where to look and what to do. The zero value is the usual case.
type Options struct {
	// Cache is the cache folder. Empty: GOMMU_CACHE, else "gommu" in os.UserCacheDir.
	Cache string
	// Progress is told what Setup is doing, from one goroutine at a time. Nil: nobody is. See Display.
	Progress func(Event)
	// Force makes Setup fetch everything again, for newer packages. A unit that it replaces is removed.
	Force bool
	// NoKernel leaves the kernel out, for those who need QEMU only: Find and Setup then neither look for one nor
	// fetch one.
	NoKernel bool

	host host
}

// host is the machine as this package sees it. The zero value is the real one; tests give another.
type host struct {
	root     string // prefix of /etc/apt and /etc/os-release
	arch     string
	getenv   func(string) string
	lookPath func(string) (string, error)
	aptConf  string                  // appended to the configuration of apt
	fault    func(step string) error // asked before every step that can fail outside this process
	least    int64                   // bytes that must be free before anything is fetched; 0: leastSpace
	anySpace bool                    // do not compare the needed space with the free one
	noPause  bool                    // do not wait between two attempts to fetch
}

func (h *host) env(name string) string {
	if h.getenv != nil {
		return h.getenv(name)
	}
	return os.Getenv(name)
}

func (h *host) look(name string) (string, error) {
	if h.lookPath != nil {
		return h.lookPath(name)
	}
	return exec.LookPath(name)
}

func (h *host) architecture() string {
	if h.arch != "" {
		return h.arch
	}
	return runtime.GOARCH
}

func (h *host) step(name string) error {
	if h.fault != nil {
		return h.fault(name)
	}
	return nil
}

func (h *host) pause(d time.Duration) time.Duration {
	if h.noPause {
		return 0
	}
	return d
}

// CacheDir returns the cache folder that the zero Options mean: GOMMU_CACHE, else "gommu" in os.UserCacheDir. It need
// not exist.
func CacheDir() (string, error) {
	var o Options
	return o.cacheDir()
}

// cache returns the cache of opts. The folder need not exist.
func (o *Options) cache() (cache, error) {
	dir, err := o.cacheDir()
	return cache{dir: filepath.Join(dir, layout)}, err
}

func (o *Options) cacheDir() (string, error) {
	dir, from := o.Cache, "Options.Cache"
	if dir == "" {
		dir, from = o.host.env(envCache), envCache
	}
	if dir == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return "", &Error{Op: "cache folder", Err: err, Remedy: "set " + envCache + " to a folder to keep QEMU and the kernel in"}
		}
		dir, from = filepath.Join(base, "gommu"), "the user's cache folder"
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", &Error{Op: "cache folder", Name: from, Err: err}
	}
	return dir, nil
}

// Find returns the QEMUs and the kernel that are ready to use. It is FindQEMU and, unless NoKernel is set,
// FindKernel together and fails when either does.
func Find(opts Options) (Installed, error) {
	var in Installed
	qemus, notes, err := findQEMU(opts)
	if err != nil {
		return Installed{}, err
	}
	in.QEMUs, in.Notes = qemus, notes
	if opts.NoKernel {
		return in, nil
	}
	if in.Kernel, err = FindKernel(opts); err != nil {
		return Installed{}, err
	}
	further, notes := furtherKernels(opts)
	in.Kernels, in.Notes = newestFirst(append(further, in.Kernel)), append(in.Notes, notes...)
	return in, nil
}

func newestFirst(kernels []Kernel) []Kernel {
	slices.SortFunc(kernels, func(a, b Kernel) int { return compareVersions(b.Release, a.Release) })
	return kernels
}

// FindQEMU returns the QEMUs that are ready to use, newest first: those of GOMMU_QEMU, else those in the
// cache, else qemu-system-x86_64 in PATH. A unit of the cache with a file that is missing or has the wrong size
// is left out. Errors: ErrNoQEMU (with ErrDamaged if that is why), ErrOverride.
func FindQEMU(opts Options) ([]QEMU, error) {
	qemus, _, err := findQEMU(opts)
	return qemus, err
}

func findQEMU(opts Options) (qemus []QEMU, notes []string, err error) {
	if list := opts.host.env(envQEMU); list != "" {
		qemus, err = overrideQEMU(list)
		return qemus, nil, err
	}
	c, err := opts.cache()
	if err != nil {
		return nil, nil, err
	}
	units, damage := c.units(roleQEMU, roleBackports)
	for _, u := range units {
		if u.Absent != "" {
			notes = append(notes, "no newer QEMU: "+u.Absent)
			continue
		}
		qemus = append(qemus, QEMU{Path: filepath.Join(u.dir, wrapperPath), Version: u.Version})
	}
	for _, d := range damage {
		notes = append(notes, d.Error())
	}
	if len(qemus) > 0 {
		slices.SortFunc(qemus, func(a, b QEMU) int { return compareVersions(b.Version, a.Version) })
		return qemus, notes, nil
	}
	if path, err := opts.host.look(qemuName); err == nil {
		if path, err = filepath.Abs(path); err == nil {
			if version, err := askVersion(path); err == nil {
				return []QEMU{{Path: path, Version: version}}, notes, nil
			}
		}
	}
	return nil, nil, notFound("find QEMU", ErrNoQEMU, damage, envQEMU)
}

// FindKernel returns the guest kernel: that of GOMMU_KERNEL and GOMMU_MODULES, else the distribution's in the cache.
// Errors: ErrNoKernel (with ErrDamaged if that is why), ErrOverride.
func FindKernel(opts Options) (Kernel, error) {
	image, modules := opts.host.env(envKernel), opts.host.env(envModules)
	if image != "" || modules != "" {
		return overrideKernel(image, modules)
	}
	c, err := opts.cache()
	if err != nil {
		return Kernel{}, err
	}
	units, damage := c.units(roleKernel)
	if len(units) == 0 {
		return Kernel{}, notFound("find kernel", ErrNoKernel, damage, envKernel+" and "+envModules)
	}
	newest := slices.MaxFunc(units, func(a, b *unit) int { return compareVersions(a.Version, b.Version) })
	return newest.kernel()
}

// FindKernels returns the kernel of FindKernel and the others that there are, newest first. Its errors are FindKernel's.
func FindKernels(opts Options) ([]Kernel, error) {
	k, err := FindKernel(opts)
	if err != nil {
		return nil, err
	}
	further, _ := furtherKernels(opts)
	return newestFirst(append(further, k)), nil
}

// furtherKernels returns the kernels that there are besides that of FindKernel.
func furtherKernels(opts Options) (kernels []Kernel, notes []string) {
	if opts.host.env(envKernel) != "" {
		return nil, nil
	}
	c, err := opts.cache()
	if err != nil {
		return nil, []string{err.Error()}
	}
	units, damage := c.units(roleNext)
	for _, u := range units {
		k, err := u.kernel()
		switch {
		case u.Absent != "":
			notes = append(notes, "no newer kernel: "+u.Absent)
		case err != nil:
			damage = append(damage, err)
		default:
			kernels = append(kernels, k)
		}
	}
	for _, d := range damage {
		notes = append(notes, d.Error())
	}
	return kernels, notes
}

func notFound(op string, what error, damage []error, variables string) error {
	if len(damage) > 0 {
		what = fmt.Errorf("%w: %w", what, errors.Join(damage...))
	}
	return &Error{Op: op, Err: what, Remedy: "run: go run ./cmd/gommu setup (or make setup), or set " + variables}
}

// Verify hashes every file of every unit in the cache and compares it with the manifests. The error names the
// damaged files and is ErrDamaged; a cache that holds nothing is no error. It reads some
// 400 MB.
func Verify(ctx context.Context, opts Options) error {
	c, err := opts.cache()
	if err != nil {
		return err
	}
	units, damage := c.units(roleQEMU, roleBackports, roleKernel, roleNext)
	for _, u := range units {
		if err := u.verify(ctx); err != nil {
			damage = append(damage, err)
		}
	}
	return errors.Join(damage...)
}

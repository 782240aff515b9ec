package provision

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
)

var (
	// ErrNoQEMU says that there is no QEMU, neither in the environment nor in the cache nor in PATH.
	ErrNoQEMU = errors.New("no QEMU found")
	// ErrNoKernel says that there is no guest kernel, neither in the environment nor in the cache.
	ErrNoKernel = errors.New("no guest kernel found")
	// ErrOverride says that a GOMMU_ variable names something that cannot be used.
	ErrOverride = errors.New("not usable")
	// ErrUnsupported says that this system's packages cannot be fetched: it is not amd64 Linux with apt.
	ErrUnsupported = errors.New("packages can be fetched only on amd64 Linux with apt-get, apt-cache and dpkg-deb")
	// ErrNoSources says that the system's apt sources name no archive of its distribution.
	ErrNoSources = errors.New("no package source of this distribution")
	// ErrNoPackage says that the distribution lacks a package.
	ErrNoPackage = errors.New("the distribution has no such package")
	// ErrNoSpace says that the file system of the cache is full or would be. The error is also ENOSPC or EDQUOT.
	ErrNoSpace = errors.New("not enough space")
	// ErrNetwork says that the package archive could not be reached or stopped answering.
	ErrNetwork = errors.New("package archive not reachable")
	// ErrUntrusted says that the package archive's signature could not be checked.
	ErrUntrusted = errors.New("package archive not trusted")
	// ErrHash says that what was downloaded is not what the package index promised.
	ErrHash = errors.New("download differs from the package index")
	// ErrReadOnly says that the cache cannot be written. The error is also EROFS, EACCES or EPERM.
	ErrReadOnly = errors.New("cache not writable")
	// ErrDamaged says that a file in the cache is not what Setup put there.
	ErrDamaged = errors.New("cache damaged")
	// ErrTool says that apt-get, apt-cache, dpkg-deb or the unpacked QEMU failed for a reason of its own.
	ErrTool = errors.New("tool failed")
)

// Error is the error of this package.
type Error struct {
	Op     string // what was being done, such as "download" or "find kernel"
	Name   string // what it was done to: a package, a unit, a variable, a path; may be empty
	Err    error
	Remedy string // what to do about it; may be empty
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("provision: " + e.Op)
	if e.Name != "" {
		b.WriteString(" " + e.Name)
	}
	b.WriteString(": " + e.Err.Error())
	if e.Remedy != "" {
		b.WriteString("; " + e.Remedy)
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// fileError turns the error of a file operation on the cache into an Error with its remedy.
func fileError(op, name string, err error) error {
	var known *Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	e := &Error{Op: op, Name: name, Err: err}
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		e.Err, e.Remedy = fmt.Errorf("%w: %w", ErrNoSpace, err), remedySpace
	case errors.Is(err, syscall.EROFS), errors.Is(err, fs.ErrPermission):
		e.Err, e.Remedy = fmt.Errorf("%w: %w", ErrReadOnly, err), "make it writable, or set "+envCache+" to a folder that is"
	case errors.Is(err, syscall.ENOTDIR):
		e.Remedy = "set " + envCache + " to a path that can be a folder"
	}
	return e
}

const (
	remedySpace = "free some or set " + envCache + " to a folder on a larger file system"
	remedyTry   = "try again; what was complete before is still there"
)

// toolError is how a child process failed: its complaint and the exit state.
type toolError struct {
	tool      string
	complaint string // what it wrote to stderr, in English
	err       error
}

func (e *toolError) Error() string {
	if e.complaint == "" {
		return e.tool + ": " + e.err.Error()
	}
	return e.tool + ": " + lastLines(e.complaint)
}

func (e *toolError) Unwrap() error { return e.err }

// lastLines keeps the errors of an apt run, else its last lines, on one line.
func lastLines(s string) string {
	var errs, all []string
	for line := range strings.Lines(s) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		all = append(all, line)
		if strings.HasPrefix(line, "E: ") {
			errs = append(errs, line[3:])
		}
	}
	if len(errs) == 0 {
		errs = all[max(0, len(all)-3):]
	}
	return strings.Join(errs[:min(len(errs), 3)], ", ")
}

// complaints maps what the tools say, in order of precedence, to what it means.
var complaints = []struct {
	text   string
	means  error
	errno  error
	remedy string
}{
	{"No space left on device", ErrNoSpace, syscall.ENOSPC, remedySpace},
	{"Disk quota exceeded", ErrNoSpace, syscall.EDQUOT, remedySpace},
	{"enough free space", ErrNoSpace, syscall.ENOSPC, remedySpace},
	{"Read-only file system", ErrReadOnly, syscall.EROFS, "set " + envCache + " to a folder that is writable"},
	{"Hash Sum mismatch", ErrHash, nil, "try again later: the mirror is damaged or being updated"},
	{"File has unexpected size", ErrHash, nil, "try again later: the mirror is damaged or being updated"},
	{"NO_PUBKEY", ErrUntrusted, nil, remedyTrust},
	{"EXPKEYSIG", ErrUntrusted, nil, remedyTrust},
	{"BADSIG", ErrUntrusted, nil, remedyTrust},
	{"is not signed", ErrUntrusted, nil, remedyTrust},
	{"cannot be authenticated", ErrUntrusted, nil, remedyTrust},
	{"is not valid yet", ErrUntrusted, nil, "set the machine's clock"},
	{"Unable to locate package", ErrNoPackage, nil, remedyInstall},
	{"Temporary failure resolving", ErrNetwork, nil, remedyNetwork},
	{"Could not resolve", ErrNetwork, nil, remedyNetwork},
	{"Could not connect", ErrNetwork, nil, remedyNetwork},
	{"Unable to connect", ErrNetwork, nil, remedyNetwork},
	{"Connection failed", ErrNetwork, nil, remedyNetwork},
	{"Failed to fetch", ErrNetwork, nil, remedyNetwork},
	{"does not have a Release file", ErrNetwork, nil, remedyNetwork},
}

const (
	remedyNetwork = "check the network and the sources in /etc/apt, then run setup again"
	remedyTrust   = "install the distribution's archive keyring, or correct Signed-By in the sources in /etc/apt"
	remedyInstall = "install QEMU and a kernel by hand and set " + envQEMU + ", " + envKernel + " and " + envModules
)

// toolFailure turns the failure of a tool into an Error with its meaning and remedy.
func toolFailure(op, name string, err error) error {
	var t *toolError
	if !errors.As(err, &t) {
		return fileError(op, name, err)
	}
	for _, c := range complaints {
		if !strings.Contains(t.complaint, c.text) {
			continue
		}
		means := c.means
		if c.errno != nil {
			means = fmt.Errorf("%w: %w", means, c.errno)
		}
		return &Error{Op: op, Name: name, Err: fmt.Errorf("%w: %w", means, t), Remedy: c.remedy}
	}
	return &Error{Op: op, Name: name, Err: fmt.Errorf("%w: %w", ErrTool, t), Remedy: remedyTry}
}

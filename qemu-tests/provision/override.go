package provision

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	envQEMU    = "GOMMU_QEMU"
	envKernel  = "GOMMU_KERNEL"
	envModules = "GOMMU_MODULES"
	envCache   = "GOMMU_CACHE"

	qemuName = "qemu-system-x86_64"
)

func overrideError(variable, reason string, err error) error {
	if err == nil {
		err = errors.New(reason)
	} else if reason != "" {
		err = fmt.Errorf("%s: %w", reason, err)
	}
	return &Error{Op: "environment", Name: variable, Err: fmt.Errorf("%w: %w", ErrOverride, err), Remedy: "correct " + variable + " or unset it"}
}

// overrideQEMU returns the executables of a ':'-separated list, newest first.
func overrideQEMU(list string) ([]QEMU, error) {
	var qemus []QEMU
	for _, path := range filepath.SplitList(list) {
		path, err := exec.LookPath(path)
		if err == nil {
			path, err = filepath.Abs(path)
		}
		if err != nil {
			return nil, overrideError(envQEMU, "", err)
		}
		version, err := askVersion(path)
		if err != nil {
			return nil, overrideError(envQEMU, "", err)
		}
		qemus = append(qemus, QEMU{Path: path, Version: version})
	}
	slices.SortStableFunc(qemus, func(a, b QEMU) int { return compareVersions(b.Version, a.Version) })
	return qemus, nil
}

// overrideKernel checks a kernel and its modules as the environment names them.
func overrideKernel(image, modules string) (Kernel, error) {
	switch {
	case image == "":
		return Kernel{}, overrideError(envKernel, "not set, while "+envModules+" is", nil)
	case modules == "":
		return Kernel{}, overrideError(envModules, "not set, while "+envKernel+" is", nil)
	}
	image, err := filepath.Abs(image)
	if err != nil {
		return Kernel{}, overrideError(envKernel, "", err)
	}
	release, err := imageRelease(image)
	if err != nil {
		return Kernel{}, overrideError(envKernel, "", err)
	}
	modules, err = filepath.Abs(modules)
	if err != nil {
		return Kernel{}, overrideError(envModules, "", err)
	}
	if st, err := os.Stat(modules); err != nil {
		return Kernel{}, overrideError(envModules, "", err)
	} else if !st.IsDir() {
		return Kernel{}, overrideError(envModules, modules+" is no folder", nil)
	}
	folder := filepath.Base(modules)
	if release != "" && release != folder {
		return Kernel{}, overrideError(envModules, fmt.Sprintf("the folder is for %s, the image of %s is %s", folder, envKernel, release), nil)
	}
	return Kernel{Image: image, Modules: modules, Release: folder}, nil
}

// imageRelease reads the release out of a bzImage (Documentation/arch/x86/boot.rst: "HdrS" at 0x202, the offset of the
// version string less 0x200 at 0x20e). It is empty for an image of another kind, such as an ELF vmlinux.
func imageRelease(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil {
		return "", err
	} else if !st.Mode().IsRegular() {
		return "", fmt.Errorf("%s is no regular file", path)
	}
	head := make([]byte, 0x210)
	if _, err := f.ReadAt(head, 0); errors.Is(err, io.EOF) || string(head[0x202:0x206]) != "HdrS" {
		return "", nil
	} else if err != nil {
		return "", err
	}
	text := make([]byte, 256)
	n, err := f.ReadAt(text, 0x200+int64(binary.LittleEndian.Uint16(head[0x20e:])))
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	release, _, _ := bytes.Cut(text[:n], []byte{0})
	word, _, _ := strings.Cut(string(release), " ")
	return word, nil
}

// versions remembers what executables answered, since a Find is asked often and starting QEMU takes 30 to 50 ms.
var versions sync.Map // of versionKey to string

type versionKey struct {
	path  string
	size  int64
	mtime time.Time
}

// askVersion starts a QEMU with --version and returns what it says, such as "7.2.22".
func askVersion(path string) (string, error) {
	st, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	key := versionKey{path, st.Size(), st.ModTime()}
	if v, ok := versions.Load(key); ok {
		return v.(string), nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	out, err := runVersion(ctx, path)
	for ctx.Err() == nil && isBusy(err) {
		time.Sleep(10 * time.Millisecond)
		out, err = runVersion(ctx, path)
	}
	if err != nil {
		return "", fmt.Errorf("%s --version: %w", path, err)
	}
	version, ok := parseVersion(out)
	if !ok {
		return "", fmt.Errorf("%s is no QEMU: --version says %.60q", path, out)
	}
	versions.Store(key, version)
	return version, nil
}

func runVersion(ctx context.Context, path string) (string, error) {
	cmd := exec.CommandContext(ctx, path, "--version")
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.WaitDelay = time.Second
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", &toolError{qemuName, stderr.String(), err}
	}
	return string(out), nil
}

// isBusy reports whether a program could not start because somebody has it open for writing. Of one just unpacked that
// is a child that another goroutine forked meanwhile; it lets go when it executes its own program (go.dev/issue/22315).
func isBusy(err error) bool {
	return err != nil && (errors.Is(err, syscall.ETXTBSY) || strings.Contains(err.Error(), "Text file busy"))
}

// parseVersion takes the version out of "QEMU emulator version 7.2.22 (Debian ...)".
func parseVersion(out string) (string, bool) {
	_, rest, ok := strings.Cut(out, "QEMU emulator version ")
	if !ok {
		return "", false
	}
	fields := strings.Fields(rest)
	if len(fields) == 0 || !isDigit(fields[0][0]) || strings.ContainsAny(fields[0], "/\\") {
		return "", false
	}
	return fields[0], true
}

package provision

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// layout is the folder of the cache that this version of the package reads and writes.
const layout = "v1"

const (
	manifestName  = "manifest.json"
	stagingPrefix = "staging-"
	wrapperPath   = "bin/" + qemuName
	treeName      = "root" // the unpacked packages, in a unit
)

// role is what a unit is there for. There is at most one good unit of a role.
type role string

const (
	roleQEMU      role = "qemu"           // the distribution's QEMU
	roleBackports role = "qemu-backports" // the newer QEMU of its backports
	roleKernel    role = "kernel"         // the distribution's kernel
	roleNext      role = "kernel-next"    // the one of its next release
)

// kind is what the name of a unit of the role begins with, before the dash.
func (r role) kind() string {
	kind, _, _ := strings.Cut(string(r), "-")
	return kind
}

// isUnitName reports whether an entry of the cache is a unit: "<role>-<version>".
func isUnitName(name string) bool {
	kind, version, _ := strings.Cut(name, "-")
	return version != "" && (kind == roleQEMU.kind() || kind == roleKernel.kind())
}

// cache is the folder <cache>/v1.
type cache struct{ dir string }

// manifest describes a unit; it is the manifest.json in its folder.
type manifest struct {
	Role    role   `json:"role"`
	Version string `json:"version,omitempty"` // QEMU's version or the kernel's release
	// Absent says why there is nothing to be had for this role; such a unit has no files.
	Absent   string      `json:"absent,omitempty"`
	Packages []pkg       `json:"packages,omitempty"`
	Files    []unitFile  `json:"files,omitempty"`
	Kernel   *kernelPart `json:"kernel,omitempty"`
}

// kernelPart says where in a kernel unit the kernel is.
type kernelPart struct {
	Image   string `json:"image"`
	Modules string `json:"modules"`
}

// pkg is a package as the distribution's index describes it.
type pkg struct {
	Name      string `json:"name"`
	Version   string `json:"version"`
	SHA256    string `json:"sha256"`
	Size      int64  `json:"size"`
	file      string // name of the .deb
	installed int64  // bytes when unpacked, as the index says
}

// unitFile is a file or a symbolic link of a unit.
type unitFile struct {
	Path   string `json:"path"` // relative to the unit, with slashes
	Size   int64  `json:"size,omitempty"`
	SHA256 string `json:"sha256,omitempty"`
	Exec   bool   `json:"exec,omitempty"`
	Link   string `json:"link,omitempty"`
}

// unit is a unit in the cache.
type unit struct {
	manifest
	dir string
}

// units returns the units of the roles whose files are all there with the right sizes, and what is wrong with the others.
func (c cache) units(roles ...role) (good []*unit, damage []error) {
	entries, err := os.ReadDir(c.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, []error{fileError("read cache", c.dir, err)}
	}
	for _, e := range entries {
		if !isUnitName(e.Name()) {
			continue
		}
		kind, _, _ := strings.Cut(e.Name(), "-")
		if !slices.ContainsFunc(roles, func(r role) bool { return r.kind() == kind }) {
			continue
		}
		u, err := openUnit(filepath.Join(c.dir, e.Name()))
		if err == nil && !slices.Contains(roles, u.Role) {
			continue
		}
		if err == nil {
			err = u.checkSizes()
		}
		if err != nil {
			damage = append(damage, err)
			continue
		}
		good = append(good, u)
	}
	return good, damage
}

// openUnit reads the manifest of the unit in dir.
func openUnit(dir string) (*unit, error) {
	u := &unit{dir: dir}
	path := filepath.Join(dir, manifestName)
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, &u.manifest)
	}
	if err != nil {
		return nil, damaged(path, err.Error())
	}
	return u, nil
}

func damaged(path, how string) error {
	return &Error{Op: "check", Name: path, Err: fmt.Errorf("%w: %s", ErrDamaged, how), Remedy: "run setup again: it fetches the unit anew"}
}

// checkSizes looks at every file's kind and size without reading it.
func (u *unit) checkSizes() error {
	for _, f := range u.Files {
		path := filepath.Join(u.dir, filepath.FromSlash(f.Path))
		st, err := os.Lstat(path)
		switch {
		case err != nil:
			return damaged(path, err.Error())
		case f.Link != "":
			if st.Mode().Type() != fs.ModeSymlink {
				return damaged(path, "was a symbolic link")
			}
		case !st.Mode().IsRegular():
			return damaged(path, "was a regular file")
		case st.Size() != f.Size:
			return damaged(path, fmt.Sprintf("has %d bytes, had %d", st.Size(), f.Size))
		case f.Exec && st.Mode()&0o100 == 0:
			return damaged(path, "was executable")
		}
	}
	return nil
}

// verify hashes every file.
func (u *unit) verify(ctx context.Context) error {
	for _, f := range u.Files {
		if err := ctx.Err(); err != nil {
			return &Error{Op: "check", Name: u.dir, Err: err}
		}
		path := filepath.Join(u.dir, filepath.FromSlash(f.Path))
		if f.Link != "" {
			if to, err := os.Readlink(path); err != nil || to != f.Link {
				return damaged(path, "pointed to "+f.Link)
			}
			continue
		}
		sum, err := hashFile(path)
		if err != nil {
			return damaged(path, err.Error())
		}
		if sum != f.SHA256 {
			return damaged(path, "its SHA-256 changed")
		}
	}
	return nil
}

func hashFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// kernel returns the kernel of a kernel unit.
func (u *unit) kernel() (Kernel, error) {
	if u.Kernel == nil {
		return Kernel{}, damaged(filepath.Join(u.dir, manifestName), "names no kernel")
	}
	return Kernel{
		Image:   filepath.Join(u.dir, filepath.FromSlash(u.Kernel.Image)),
		Modules: filepath.Join(u.dir, filepath.FromSlash(u.Kernel.Modules)),
		Release: u.Version,
	}, nil
}

package provision

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// tree is a folder that packages are unpacked into, by this process: only the files that keep wants, owned by the
// user, with everything under usr/ as merged-usr systems have it, so that packages of either form fit together.
type tree struct {
	root  *os.Root
	keep  func(name string) bool // name is relative, merged, with slashes
	files map[string]unitFile    // by name
	read  int64                  // bytes of file content seen, kept or not
	tell  func(read int64)
	host  *host
}

// newTree makes the folder dir and the tree over it.
func newTree(dir string, keep func(string) bool, h *host, tell func(int64)) (*tree, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &tree{root: root, keep: keep, files: map[string]unitFile{}, tell: tell, host: h}, nil
}

func (t *tree) close() error { return t.root.Close() }

// merged are the top folders that merged-usr systems keep in usr.
var merged = []string{"bin", "sbin", "lib", "lib32", "lib64", "libx32"}

// mergeUsr cleans a name or an absolute link target of a package and returns it relative to the root, merged. It
// never leaves the root.
func mergeUsr(name string) string {
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	top, _, _ := strings.Cut(name, "/")
	if slices.Contains(merged, top) {
		name = "usr/" + name
	}
	return name
}

// unpack adds the files of a .deb.
func (t *tree) unpack(ctx context.Context, deb string) error {
	if err := t.host.step("dpkg-deb"); err != nil {
		return fileError("unpack", filepath.Base(deb), err)
	}
	err := command{name: "dpkg-deb", args: []string{"--fsys-tarfile", deb}}.stream(ctx, func(r io.Reader) error {
		archive := tar.NewReader(r)
		for {
			h, err := archive.Next()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			if err := t.add(h, archive); err != nil {
				return err
			}
			t.read += h.Size
			t.tell(t.read)
		}
	})
	return toolFailure("unpack", filepath.Base(deb), err)
}

// add adds one entry of a package. Folders are made for the files in them; devices and the like do not occur.
func (t *tree) add(h *tar.Header, content io.Reader) error {
	name := mergeUsr(h.Name)
	if !t.keep(name) {
		return nil
	}
	var err error
	switch h.Typeflag {
	case tar.TypeReg:
		return t.write(name, h.FileInfo().Mode(), content)
	case tar.TypeLink:
		err = t.copyOf(name, mergeUsr(h.Linkname))
	case tar.TypeSymlink:
		err = t.link(name, h.Name, h.Linkname)
	}
	if err != nil {
		return fileError("unpack", name, err)
	}
	return nil
}

// write makes a file with its folder. An error of content is returned as it is, one of the disk as an Error.
func (t *tree) write(name string, mode fs.FileMode, content io.Reader) (err error) {
	f, err := t.create(name, mode)
	if err != nil {
		return fileError("unpack", name, err)
	}
	defer func() {
		if closeErr := f.Close(); err == nil && closeErr != nil {
			err = fileError("unpack", name, closeErr)
		}
	}()
	hash := sha256.New()
	out := &diskWriter{f: f}
	n, err := io.Copy(io.MultiWriter(out, hash), content)
	if out.err != nil {
		return fileError("unpack", name, out.err)
	}
	if err != nil {
		return err
	}
	t.files[name] = unitFile{Path: path.Join(treeName, name), Size: n, SHA256: hex.EncodeToString(hash.Sum(nil)), Exec: mode&0o100 != 0}
	return nil
}

// diskWriter remembers that it was the disk that failed.
type diskWriter struct {
	f   *os.File
	err error
}

func (w *diskWriter) Write(p []byte) (int, error) {
	n, err := w.f.Write(p)
	w.err = err
	return n, err
}

// create opens a new file for writing in place of what had its name.
func (t *tree) create(name string, mode fs.FileMode) (*os.File, error) {
	if err := t.host.step("create file"); err != nil {
		return nil, err
	}
	if err := t.clear(name); err != nil {
		return nil, err
	}
	return t.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644|mode.Perm()&0o111)
}

// clear makes the folder of name and removes what is at name.
func (t *tree) clear(name string) error {
	if err := t.root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	delete(t.files, name)
	if err := t.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// copyOf makes name a copy of a file that came before it, as a hard link of the package.
func (t *tree) copyOf(name, target string) error {
	file, ok := t.files[target]
	if !ok {
		return nil // its target is not kept
	}
	if err := t.clear(name); err != nil {
		return err
	}
	if err := t.root.Link(target, name); err != nil {
		return err
	}
	file.Path = path.Join(treeName, name)
	t.files[name] = file
	return nil
}

// link makes a symbolic link that is right wherever the tree lies: relative, for merged folders.
func (t *tree) link(name, original, target string) error {
	if !path.IsAbs(target) {
		target = path.Join("/", path.Dir(path.Clean("/"+original)), target)
	}
	to, err := filepath.Rel(path.Dir(name), mergeUsr(target))
	if err != nil {
		return err
	}
	if err := t.clear(name); err != nil {
		return err
	}
	if err := t.root.Symlink(to, name); err != nil {
		return err
	}
	t.files[name] = unitFile{Path: path.Join(treeName, name), Link: to}
	return nil
}

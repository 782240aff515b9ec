package vm

import (
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/u-root/u-root/pkg/cpio"
)

// loadProgram returns the records of an initramfs for a program: itself as /init and,
// if it is dynamically linked, its loader and libraries at the paths at which it looks
// for them.
func loadProgram(file string) ([]cpio.Record, error) {
	fail := func(err error) ([]cpio.Record, error) {
		return nil, &Error{Op: "init", Path: file, Err: err}
	}
	f, err := elf.Open(file)
	if err != nil {
		return fail(err)
	}
	machine := f.Machine
	f.Close()
	if machine != elf.EM_X86_64 {
		return fail(fmt.Errorf("a program for %v; the guest is x86-64 (GOOS=linux GOARCH=amd64)", machine))
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return fail(err)
	}
	recs := []cpio.Record{cpio.StaticFile("init", string(b), 0o755)}
	libs, err := libraries(file)
	if err != nil {
		return fail(fmt.Errorf("finding its libraries: %w", err))
	}
	slices.Sort(libs)
	for _, l := range libs {
		r, err := record(l, l)
		if err != nil {
			return fail(err)
		}
		recs = append(recs, r)
	}
	return recs, nil
}

// record makes a record of a file or symbolic link of the host.
func record(at, file string) (cpio.Record, error) {
	fi, err := os.Lstat(file)
	if err != nil {
		return cpio.Record{}, err
	}
	name := cpio.Normalize(at)
	switch {
	case fi.Mode()&fs.ModeSymlink != 0:
		to, err := os.Readlink(file)
		return cpio.Symlink(name, to), err
	case fi.IsDir():
		return cpio.Directory(name, uint64(fi.Mode().Perm())), nil
	case fi.Mode().IsRegular():
		b, err := os.ReadFile(file)
		return cpio.StaticFile(name, string(b), uint64(fi.Mode().Perm())), err
	}
	return cpio.Record{}, fmt.Errorf("%s: %v is neither a file, a folder nor a link", file, fi.Mode().Type())
}

// tree makes records of a file, or of a folder with all that is in it. A link that is
// named itself is followed.
func tree(at, file string) ([]cpio.Record, error) {
	file, err := filepath.EvalSymlinks(file)
	if err != nil {
		return nil, err
	}
	var recs []cpio.Record
	err = filepath.WalkDir(file, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(file, p)
		if err != nil {
			return err
		}
		r, err := record(path.Join("/", at, filepath.ToSlash(rel)), p)
		recs = append(recs, r)
		return err
	})
	return recs, err
}

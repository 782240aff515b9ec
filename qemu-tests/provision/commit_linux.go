package provision

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// commit writes the manifest of the unit in the staging folder dir, puts all of it on disk, and renames it into the cache.
// Then it removes the units that it replaces.
func (s *setup) commit(dir string, m *manifest) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := s.host.step("write manifest"); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, manifestName), text, 0o644); err != nil {
		return err
	}
	if err := s.sync(dir); err != nil {
		return err
	}
	name := filepath.Join(s.cache.dir, string(m.Role)+"-"+m.Version)
	if err := s.replace(name, dir); err != nil {
		return err
	}
	return s.sweep(name, m.Role)
}

// sync writes the file system of dir to disk: a unit has thousands of files, and a full disk may show only now.
func (s *setup) sync(dir string) error {
	if err := s.host.step("sync"); err != nil {
		return err
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}

// replace renames dir to name. What had that name goes into the staging folder, and back when the rename fails.
func (s *setup) replace(name, dir string) error {
	old := dir + ".old"
	err := os.Rename(name, old)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	had := err == nil
	if err = s.host.step("rename"); err == nil {
		err = os.Rename(dir, name)
	}
	if err != nil && had {
		return errors.Join(err, os.Rename(old, name))
	}
	return err
}

// sweep removes the other units of the role and those that cannot be read. They go to the staging folder first, so
// that each is there entirely or not at all.
func (s *setup) sweep(keep string, r role) error {
	entries, err := os.ReadDir(s.cache.dir)
	if err != nil {
		return err
	}
	trash, err := os.MkdirTemp(s.cache.dir, stagingPrefix)
	if err != nil {
		return err
	}
	defer os.RemoveAll(trash)
	for _, e := range entries {
		dir := filepath.Join(s.cache.dir, e.Name())
		if dir == keep || !isUnitName(e.Name()) {
			continue
		}
		if u, err := openUnit(dir); err == nil && u.Role != r {
			continue
		}
		if err := os.Rename(dir, filepath.Join(trash, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

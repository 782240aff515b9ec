package vm

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"

	"github.com/u-root/u-root/pkg/cpio"

	"gommu/qemu-tests/vm/internal/wire"
)

// The modules that the result port needs where the kernel has them as modules.
var portModules = []string{"virtio_pci", "virtio_console"}

// writeImage writes the initramfs of a machine, a newc archive, not compressed: the
// guest would unpack it slower than it reads it.
func writeImage(w io.Writer, m Machine, program []cpio.Record) error {
	spec := wire.Spec{
		Args:  m.Args,
		Env:   m.Env,
		Fetch: slices.Sorted(maps.Keys(m.Fetch)),
		Limit: m.limit(),
	}
	recs := []cpio.Record{
		// The Go runtime opens them before PID 1 has mounted anything.
		cpio.CharDev("dev/console", 0o600, 5, 1),
		cpio.CharDev("dev/null", 0o666, 1, 3),
	}
	mods, err := moduleRecords(m, &spec)
	if err != nil {
		return err
	}
	recs = append(recs, mods...)
	js, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	recs = append(recs, cpio.StaticFile(wire.SpecPath, string(js), 0o600))
	recs = append(recs, program...)
	for _, at := range slices.Sorted(maps.Keys(m.Files)) {
		r, err := tree(at, m.Files[at])
		if err != nil {
			return &Error{Op: "file for the guest", Path: m.Files[at], Err: err}
		}
		recs = append(recs, r...)
	}
	return writeRecords(w, recs)
}

// moduleRecords puts the modules of a machine into records and tells the guest which to
// load.
func moduleRecords(m Machine, spec *wire.Spec) ([]cpio.Record, error) {
	if m.Kernel.Modules == "" && len(m.Modules) == 0 {
		return nil, nil
	}
	t, err := openModules(m.Kernel.Modules)
	if err != nil {
		return nil, &Error{Op: "modules", Path: m.Kernel.Modules, Err: err}
	}
	var names []string
	for _, n := range portModules {
		if _, ok := t.path[n]; ok {
			names = append(names, n)
			spec.Preload = append(spec.Preload, n)
		}
	}
	for _, n := range m.Modules {
		name, params := cutModule(n)
		names = append(names, name)
		if !t.builtin[moduleName(name)] {
			spec.Modules = append(spec.Modules, moduleName(name)+params)
		}
	}
	mods, err := t.closure(names)
	if err != nil {
		return nil, err
	}
	dir := path.Join("lib/modules", m.Kernel.Release)
	recs := []cpio.Record{cpio.StaticFile(path.Join(dir, "modules.dep"), string(modulesDep(mods)), 0o644)}
	for _, mod := range mods {
		recs = append(recs, cpio.StaticFile(path.Join(dir, mod.path), string(mod.data), 0o644))
	}
	return recs, nil
}

// writeRecords writes an archive. Of two records of one name it refuses the second, and
// it adds the folders that none names: the kernel makes none by itself.
func writeRecords(w io.Writer, recs []cpio.Record) error {
	seen := map[string]bool{".": true}
	out := cpio.Newc.Writer(w)
	var dirs func(name string) error
	dirs = func(name string) error {
		if seen[name] {
			return nil
		}
		seen[name] = true
		if err := dirs(path.Dir(name)); err != nil {
			return err
		}
		return out.WriteRecord(cpio.Directory(name, 0o755))
	}
	for _, r := range recs {
		r = cpio.MakeReproducible(r)
		if r.Mode&cpio.S_IFMT == cpio.S_IFDIR && seen[r.Name] {
			continue
		}
		if seen[r.Name] {
			return &Error{Op: "image", Path: "/" + r.Name, Err: errors.New("two files of one name")}
		}
		if err := dirs(path.Dir(r.Name)); err != nil {
			return err
		}
		seen[r.Name] = true
		if err := out.WriteRecord(r); err != nil {
			return fmt.Errorf("vm: image: %w", err)
		}
	}
	return cpio.WriteTrailer(out)
}

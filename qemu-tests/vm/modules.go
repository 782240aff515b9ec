package vm

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// A moduleTree is the modules of one kernel release. Debian's packages have no
// modules.dep (depmod writes it at installation), so the dependencies are read from
// the modules themselves.
type moduleTree struct {
	dir     string
	path    map[string]string // name to path, relative to dir
	builtin map[string]bool
}

// A module is one that goes into the image, unpacked.
type module struct {
	path string // relative to the module folder, ends in .ko
	data []byte
	deps []string // paths of those that it needs directly
}

// What unpack knows.
var moduleSuffixes = []string{".ko", ".ko.xz", ".ko.zst", ".ko.gz"}

// moduleName is the name of a module as the kernel says it, from a file name or
// from what a user wrote.
func moduleName(s string) string {
	s = filepath.Base(s)
	if i := strings.Index(s, ".ko"); i >= 0 {
		s = s[:i]
	}
	return strings.ReplaceAll(s, "-", "_")
}

// cutModule splits "name a=1 b=2" into the name and the rest with its space.
func cutModule(s string) (name, params string) {
	if i := strings.IndexByte(s, ' '); i >= 0 {
		return s[:i], s[i:]
	}
	return s, ""
}

// openModules lists the modules below dir (lib/modules/RELEASE).
func openModules(dir string) (*moduleTree, error) {
	t := &moduleTree{dir: dir, path: map[string]string{}, builtin: map[string]bool{}}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := d.Name()
		if i := strings.LastIndex(base, ".ko"); i < 0 || !slices.Contains(moduleSuffixes, base[i:]) {
			return nil
		}
		rel, err := filepath.Rel(dir, p)
		t.path[moduleName(p)] = rel
		return err
	})
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(filepath.Join(dir, "modules.builtin"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, line := range strings.Fields(string(b)) {
		t.builtin[moduleName(line)] = true
	}
	return t, nil
}

// closure returns the modules that must be in the image for names to load,
// dependencies first. It leaves out what is built in.
func (t *moduleTree) closure(names []string) ([]module, error) {
	var mods []module
	seen := map[string]bool{}
	var add func(name, forWhom string) error
	add = func(name, forWhom string) error {
		name = moduleName(name)
		if seen[name] || t.builtin[name] {
			return nil
		}
		seen[name] = true
		rel, ok := t.path[name]
		if !ok {
			err := fmt.Errorf("%w: %s%s", ErrModule, name, forWhom)
			return &Error{Op: "modules", Path: t.dir, Err: err}
		}
		m, needs, err := t.read(rel)
		if err != nil {
			return &Error{Op: "module", Path: filepath.Join(t.dir, rel), Err: err}
		}
		for _, n := range needs {
			if err := add(n, ", which "+name+" needs"); err != nil {
				return err
			}
			if p, ok := t.path[moduleName(n)]; ok && !t.builtin[moduleName(n)] {
				m.deps = append(m.deps, plainPath(p))
			}
		}
		mods = append(mods, m)
		return nil
	}
	for _, n := range names {
		if err := add(n, ""); err != nil {
			return nil, err
		}
	}
	return mods, nil
}

// plainPath is the path of a module without the suffix of its compression.
func plainPath(p string) string {
	i := strings.LastIndex(p, ".ko")
	return p[:i+len(".ko")]
}

// read unpacks a module and returns the names of those it needs.
func (t *moduleTree) read(rel string) (module, []string, error) {
	f, err := os.Open(filepath.Join(t.dir, rel))
	if err != nil {
		return module{}, nil, err
	}
	defer f.Close()
	data, err := unpack(f, filepath.Ext(rel))
	if err != nil {
		return module{}, nil, err
	}
	needs, err := depends(data)
	return module{path: plainPath(rel), data: data}, needs, err
}

// unpack reads a module file that is packed as its suffix says. The guest would take
// 4 times as long to load it packed.
func unpack(r io.Reader, suffix string) ([]byte, error) {
	switch suffix {
	case ".xz":
		x, err := xz.NewReader(bufio.NewReader(r))
		if err != nil {
			return nil, err
		}
		r = x
	case ".zst":
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		defer z.Close()
		r = z
	case ".gz":
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, err
		}
		r = z
	}
	return io.ReadAll(r)
}

// depends reads the "depends=" entry of a module's .modinfo section: NUL-terminated
// KEY=VALUE strings (kernel: scripts/mod/modpost.c, add_depends).
func depends(ko []byte) ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(ko))
	if err != nil {
		return nil, err
	}
	s := f.Section(".modinfo")
	if s == nil {
		return nil, errors.New("no .modinfo section")
	}
	info, err := s.Data()
	if err != nil {
		return nil, err
	}
	for entry := range strings.SplitSeq(string(info), "\x00") {
		if list, ok := strings.CutPrefix(entry, "depends="); ok {
			return strings.FieldsFunc(list, func(r rune) bool { return r == ',' }), nil
		}
	}
	return nil, nil
}

// modulesDep is the modules.dep file of mods. A line must not end in a space: kmodule
// would take it for an empty name.
func modulesDep(mods []module) []byte {
	var b bytes.Buffer
	for _, m := range mods {
		b.WriteString(strings.Join(append([]string{m.path + ":"}, m.deps...), " "))
		b.WriteByte('\n')
	}
	return b.Bytes()
}

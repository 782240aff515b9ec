package vm

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// koFile makes a module as far as depends reads it: a 64-bit ELF file with the sections
// .modinfo and .shstrtab.
func koFile(modinfo string) []byte {
	const ehdr, shdr = 64, 64
	names := "\x00.modinfo\x00.shstrtab\x00"
	body := modinfo + names
	shoff := ehdr + (len(body)+7)&^7
	b := make([]byte, shoff+3*shdr)
	copy(b, "\x7fELF\x02\x01\x01")
	le := binary.LittleEndian
	le.PutUint16(b[16:], 1)  // ET_REL
	le.PutUint16(b[18:], 62) // EM_X86_64
	le.PutUint32(b[20:], 1)
	le.PutUint64(b[40:], uint64(shoff))
	le.PutUint16(b[52:], ehdr)
	le.PutUint16(b[58:], shdr)
	le.PutUint16(b[60:], 3)
	le.PutUint16(b[62:], 2)
	copy(b[ehdr:], body)
	section := func(i int, name, kind uint32, off, size int) {
		s := b[shoff+i*shdr:]
		le.PutUint32(s, name)
		le.PutUint32(s[4:], kind)
		le.PutUint64(s[24:], uint64(off))
		le.PutUint64(s[32:], uint64(size))
		le.PutUint64(s[48:], 1)
	}
	section(1, 1, 1, ehdr, len(modinfo))
	section(2, 10, 3, ehdr+len(modinfo), len(names))
	return b
}

// pack packs b as the suffix says.
func pack(t *testing.T, suffix string, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	switch suffix {
	case ".xz":
		w, err := xz.NewWriter(&out)
		if err != nil {
			t.Fatal(err)
		}
		w.Write(b)
		w.Close()
	case ".zst":
		w, err := zstd.NewWriter(&out)
		if err != nil {
			t.Fatal(err)
		}
		w.Write(b)
		w.Close()
	case ".gz":
		w := gzip.NewWriter(&out)
		w.Write(b)
		w.Close()
	default:
		return b
	}
	return out.Bytes()
}

// fakeModules writes a module folder.
func fakeModules(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, deps := range map[string]string{
		"a/top.ko.xz":        "mid-one,mid_two",
		"b/mid-one.ko.zst":   "bottom,in-kernel",
		"b/mid_two.ko.gz":    "bottom",
		"c/bottom.ko":        "",
		"c/loop-a.ko":        "loop_b",
		"c/loop_b.ko":        "loop_a",
		"c/orphan.ko":        "absent",
		"c/broken.ko.xz":     "!",
		"c/noise.ko.symvers": "!",
	} {
		b := koFile("name=x\x00depends=" + deps + "\x00vermagic=v\x00")
		if deps == "!" {
			b = []byte("rubbish")
		} else {
			b = pack(t, filepath.Ext(name), b)
		}
		file := filepath.Join(dir, "kernel", name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, b, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "modules.builtin"), []byte("kernel/d/in-kernel.ko\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestClosure(t *testing.T) {
	tree, err := openModules(fakeModules(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		names []string
		dep   string // modules.dep
	}{
		{names: nil, dep: ""},
		{names: []string{"in_kernel"}, dep: ""},
		{names: []string{"bottom", "bottom"}, dep: "kernel/c/bottom.ko:\n"},
		{names: []string{"top"}, dep: "kernel/c/bottom.ko:\n" +
			"kernel/b/mid-one.ko: kernel/c/bottom.ko\n" +
			"kernel/b/mid_two.ko: kernel/c/bottom.ko\n" +
			"kernel/a/top.ko: kernel/b/mid-one.ko kernel/b/mid_two.ko\n"},
		{names: []string{"loop-b"}, dep: "kernel/c/loop-a.ko: kernel/c/loop_b.ko\nkernel/c/loop_b.ko: kernel/c/loop-a.ko\n"},
	} {
		mods, err := tree.closure(c.names)
		if err != nil {
			t.Errorf("%q: %v", c.names, err)
			continue
		}
		if d := cmp.Diff(c.dep, string(modulesDep(mods))); d != "" {
			t.Errorf("%q: %s", c.names, d)
		}
		for _, m := range mods {
			if !bytes.HasPrefix(m.data, []byte("\x7fELF")) {
				t.Errorf("%s is not unpacked", m.path)
			}
		}
	}
	for name, want := range map[string]string{
		"none":   "no such kernel module: none",
		"orphan": "no such kernel module: absent, which orphan needs",
		"noise":  "no such kernel module: noise",
		"broken": "broken.ko.xz: ",
	} {
		if _, err := tree.closure([]string{name}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	if _, err := openModules("/none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
}

func TestDependsRefuses(t *testing.T) {
	whole := koFile("depends=a,b\x00")
	if deps, err := depends(whole); err != nil || !slices.Equal(deps, []string{"a", "b"}) {
		t.Fatalf("%q, %v", deps, err)
	}
	if deps, err := depends(koFile("license=GPL\x00")); err != nil || deps != nil {
		t.Errorf("no depends entry: %q, %v", deps, err)
	}
	if _, err := depends(bytes.Replace(whole, []byte(".modinfo"), []byte(".modinfX"), 1)); err == nil {
		t.Error("no .modinfo section: no error")
	}
	for n := range whole {
		_, _ = depends(whole[:n]) // must not panic
	}
}

// TestKernelModules works out the modules of the real kernel.
func TestKernelModules(t *testing.T) {
	tree, err := openModules(Require(t).Kernel.Modules)
	if err != nil {
		t.Fatal(err)
	}
	mods, err := tree.closure([]string{"vfio-pci", "vfio_iommu_type1"})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range mods {
		names = append(names, moduleName(m.path))
	}
	for _, want := range []string{"vfio", "vfio_pci_core", "vfio_pci", "vfio_iommu_type1"} {
		if !slices.Contains(names, want) {
			t.Errorf("%q lacks %s", names, want)
		}
	}
	if slices.Index(names, "vfio") > slices.Index(names, "vfio_pci") {
		t.Errorf("%q: a module comes before what it needs", names)
	}
}
